use std::net::SocketAddr;
use std::time::Duration;

use runtrail_otlp::RouterOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::fixture::*;

/// Serves a receiver on a port of its own.
async fn serve(receiver: &Receiver) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = receiver.router.clone();
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, server)
}

fn head(address: SocketAddr, content_type: &str, length: usize) -> String {
    format!(
        "POST /v1/traces HTTP/1.1\r\nhost: {address}\r\ncontent-type: {content_type}\r\n\
         content-length: {length}\r\n\r\n"
    )
}

/// Reads an answer as far as a text in it.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains(text) {
        let read = stream.read_buf(&mut answer).await.unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn exports_follow_one_another_on_a_connection() {
    let receiver = Receiver::new();
    let (address, server) = serve(&receiver).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    for content_type in [PROTOBUF, JSON, PROTOBUF] {
        let body = encode(&traces(vec![span(1, 1)]), content_type);
        let head = head(address, content_type, body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        let answer = read_until(&mut stream, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains(content_type), "{answer}");
        if content_type == JSON && !answer.ends_with("{}") {
            read_until(&mut stream, "{}").await;
        }
        assert_eq!(receiver.take_spans().len(), 1);
    }
    server.abort();
}

#[tokio::test]
async fn a_body_that_stalls_is_answered_and_the_connection_closed() {
    let options = RouterOptions::default().body_timeout(Duration::from_millis(50));
    let receiver = Receiver::with(options, Recorder::default());
    let (address, server) = serve(&receiver).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = head(address, JSON, 1_000) + "{";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    server.abort();
}

#[tokio::test]
async fn a_declared_length_over_the_limit_is_refused_before_the_body() {
    let receiver = Receiver::new();
    let (address, server) = serve(&receiver).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = head(address, PROTOBUF, 1 << 30);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 413 "));
    server.abort();
}
