use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

use tokio::io::{self, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use url::Url;

/// The way to a PostgreSQL server: it can lose a reply, be interrupted, and lead to another server.
pub(super) struct Proxy {
    port: u16,
    way: Arc<Way>,
    task: JoinHandle<()>,
}

struct Way {
    /// The port of the server on loopback.
    server: AtomicU16,
    loses_next_reply: AtomicBool,
    lost: AtomicU64,
    is_open: watch::Sender<bool>,
}

impl Proxy {
    pub(super) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let way = Arc::new(Way {
            server: AtomicU16::new(server),
            loses_next_reply: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            is_open: watch::Sender::new(true),
        });
        let of_task = Arc::clone(&way);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let way = Arc::clone(&of_task);
                // Whatever ends one of the two ends the other.
                tokio::spawn(async move { way.carry(client).await });
            }
        });
        Self { port, way, task }
    }

    /// What a URL of the server is through here: without encryption, as the messages are read.
    pub(super) fn url(&self, server: &str) -> String {
        let mut url = Url::parse(server).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(self.port)).unwrap();
        url.query_pairs_mut().append_pair("sslmode", "disable");
        url.into()
    }

    /// The next write is executed and committed, but the reply gets lost, and the connection with it.
    pub(super) fn lose_next_reply(&self) {
        self.way.loses_next_reply.store(true, Ordering::SeqCst);
    }

    pub(super) fn lost_replies(&self) -> u64 {
        self.way.lost.load(Ordering::SeqCst)
    }

    /// New connections lead to this server.
    pub(super) fn lead_to(&self, server: u16) {
        self.way.server.store(server, Ordering::SeqCst);
    }

    /// Nothing gets through any more, and nobody is told; or all of it.
    pub(super) fn set_open(&self, is_open: bool) {
        self.way.is_open.send_replace(is_open);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Way {
    async fn carry(&self, client: TcpStream) {
        let server = self.server.load(Ordering::SeqCst);
        let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
            return;
        };
        for end in [&client, &server] {
            end.set_nodelay(true).unwrap();
        }
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::select! {
            _ = self.carry_questions(from_client, to_server) => {}
            _ = self.carry_replies(from_server, to_client) => {}
        }
    }

    async fn carry_questions(
        &self,
        mut client: OwnedReadHalf,
        mut server: OwnedWriteHalf,
    ) -> io::Result<()> {
        let mut bytes = vec![0; 1 << 16];
        loop {
            let read = client.read(&mut bytes).await?;
            if read == 0 {
                return Ok(());
            }
            self.wait_until_open().await;
            server.write_all(&bytes[..read]).await?;
        }
    }

    /// Message by message: a letter, a length that counts itself, and the rest.
    async fn carry_replies(
        &self,
        mut server: OwnedReadHalf,
        mut client: OwnedWriteHalf,
    ) -> io::Result<()> {
        const COMMAND_COMPLETE: u8 = b'C';
        const READY_FOR_QUERY: u8 = b'Z';

        let mut is_losing = false;
        loop {
            let mut message = vec![0; 5];
            server.read_exact(&mut message).await?;
            let kind = message[0];
            let length = u32::from_be_bytes([message[1], message[2], message[3], message[4]]);
            message.resize(1 + length as usize, 0);
            server.read_exact(&mut message[5..]).await?;
            self.wait_until_open().await;

            let has_written = kind == COMMAND_COMPLETE
                && ["INSERT", "UPDATE", "DELETE"]
                    .iter()
                    .any(|verb| message[5..].starts_with(verb.as_bytes()));
            is_losing |= has_written && self.loses_next_reply.swap(false, Ordering::SeqCst);
            if !is_losing {
                client.write_all(&message).await?;
            } else if kind == READY_FOR_QUERY {
                // It is said only after the commit.
                self.lost.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
        }
    }

    async fn wait_until_open(&self) {
        let mut is_open = self.is_open.subscribe();
        // It lives as long as we do.
        let _ = is_open.wait_for(|is_open| *is_open).await;
    }
}
