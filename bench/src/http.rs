//! A client for HTTP/1.1 on one connection.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

pub(crate) struct Http {
    address: SocketAddr,
    connection: BufReader<TcpStream>,
}

impl Http {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let connection = TcpStream::connect(address).await?;
        connection.set_nodelay(true)?;
        Ok(Self {
            address,
            connection: BufReader::new(connection),
        })
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<String> {
        self.request("GET", path, "", &[]).await
    }

    /// Sends a request, and returns the body of the answer, whose status must be 200.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        media_type: &str,
        body: &[u8],
    ) -> Result<String> {
        let headers = format!("content-type: {media_type}\r\n");
        self.request("POST", path, &headers, body).await
    }

    async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Result<String> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\n{headers}content-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.connection.write_all(head.as_bytes()).await?;
        self.connection.write_all(body).await?;
        let mut status = String::new();
        self.connection.read_line(&mut status).await?;
        let mut length = 0;
        loop {
            let mut header = String::new();
            self.connection.read_line(&mut header).await?;
            let header = header.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().context("a length")?;
            }
        }
        let mut answer = vec![0; length];
        self.connection.read_exact(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        ensure!(
            status.starts_with("HTTP/1.1 200 "),
            "{path}: {status}{answer}"
        );
        Ok(answer)
    }
}
