use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{self, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use url::Url;

/// A proxy in front of a PostgreSQL server. It can drop a reply, stall, and redirect to another
/// server.
pub(super) struct Proxy {
    url: String,
    link: Arc<Link>,
    task: JoinHandle<()>,
}

struct Link {
    /// Host and port.
    server: Mutex<String>,
    /// How many replies to writes are forwarded before one is dropped; negative if none is to be
    /// dropped.
    before_loss: AtomicI64,
    lost: AtomicU64,
    is_stalled: watch::Sender<bool>,
    /// All bytes from clients since the last call of `statements`.
    requests: Mutex<Vec<u8>>,
}

impl Proxy {
    /// Starts a proxy in front of the server in this URL.
    pub(super) async fn in_front_of(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let link = Arc::new(Link {
            server: Mutex::new(address(url)),
            before_loss: AtomicI64::new(-1),
            lost: AtomicU64::new(0),
            is_stalled: watch::Sender::new(false),
            requests: Mutex::default(),
        });
        let task_link = Arc::clone(&link);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let link = Arc::clone(&task_link);
                tokio::spawn(async move { link.forward(client).await });
            }
        });

        let mut url = Url::parse(url).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(port)).unwrap();
        // The proxy parses the messages, so they must not be encrypted.
        url.query_pairs_mut().append_pair("sslmode", "disable");
        Self {
            url: url.into(),
            link,
            task,
        }
    }

    /// Returns the statements that clients have prepared since the last call, in order.
    pub(super) fn statements(&self) -> Vec<String> {
        let requests = std::mem::take(&mut *self.link.requests.lock().unwrap());
        let texts = requests
            .split(|byte| *byte == 0)
            .map(String::from_utf8_lossy);
        let verbs = [
            "INSERT ", "UPDATE ", "DELETE ", "SELECT ", "WITH ", "BEGIN", "START ", "COMMIT",
            "SET ",
        ];
        texts
            .filter(|text| verbs.iter().any(|verb| text.starts_with(verb)))
            .map(Into::into)
            .collect()
    }

    /// The URL of the database through the proxy.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Lets the server commit the next write, then drops the reply and the connection.
    pub(super) fn lose_next_reply(&self) {
        self.lose_reply_after(0);
    }

    /// Does the same after forwarding this many replies to writes.
    pub(super) fn lose_reply_after(&self, replies: i64) {
        self.link.before_loss.store(replies, Ordering::SeqCst);
    }

    pub(super) fn lost_replies(&self) -> u64 {
        self.link.lost.load(Ordering::SeqCst)
    }

    /// Sends new connections to this server.
    pub(super) fn redirect_to(&self, url: &str) {
        *self.link.server.lock().unwrap() = address(url);
    }

    /// Forwards nothing from now on, and keeps the connections open.
    pub(super) fn stall(&self) {
        self.link.is_stalled.send_replace(true);
    }

    pub(super) fn resume(&self) {
        self.link.is_stalled.send_replace(false);
    }
}

fn address(url: &str) -> String {
    let url = Url::parse(url).unwrap();
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432))
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    async fn forward(&self, client: TcpStream) {
        let server = self.server.lock().unwrap().clone();
        let Ok(server) = TcpStream::connect(server).await else {
            return;
        };
        for end in [&client, &server] {
            end.set_nodelay(true).unwrap();
        }
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        // The end of either direction closes both.
        tokio::select! {
            _ = self.forward_requests(from_client, to_server) => {}
            _ = self.forward_replies(from_server, to_client) => {}
        }
    }

    async fn forward_requests(
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
            self.requests.lock().unwrap().extend(&bytes[..read]);
            self.wait_while_stalled().await;
            server.write_all(&bytes[..read]).await?;
        }
    }

    /// Forwards one message at a time: a type byte, a length that includes itself, and the body.
    async fn forward_replies(
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
            self.wait_while_stalled().await;

            let has_written = kind == COMMAND_COMPLETE
                && ["INSERT", "UPDATE", "DELETE"]
                    .iter()
                    .any(|verb| message[5..].starts_with(verb.as_bytes()));
            is_losing |= has_written && self.before_loss.fetch_sub(1, Ordering::SeqCst) == 0;
            if !is_losing {
                client.write_all(&message).await?;
            } else if kind == READY_FOR_QUERY {
                // The server sends it only after the commit.
                self.lost.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
        }
    }

    async fn wait_while_stalled(&self) {
        let mut is_stalled = self.is_stalled.subscribe();
        // Can't fail: `self` owns the sender.
        let _ = is_stalled.wait_for(|is_stalled| !is_stalled).await;
    }
}
