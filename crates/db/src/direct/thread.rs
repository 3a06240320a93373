use std::io;
use std::sync::mpsc::{self, RecvError, SendError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use sea_orm::{DbErr, RuntimeErr, SqlxError};
use tokio::sync::oneshot;

/// The threads that wait for work. The most recently used one is last, and is reused first.
static IDLE: Mutex<Vec<IdleThread>> = Mutex::new(Vec::new());

struct IdleThread {
    id: ThreadId,
    work: Sender<Work>,
}

type Work = Box<dyn FnOnce() + Send>;

/// Runs blocking work on another thread.
///
/// Tokio's blocking threads aren't used, since callers that wait for this work could occupy all of
/// them.
///
/// # Errors
///
/// The system refuses another thread, or the work has panicked.
pub(super) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DbErr> {
    let (sender, result) = oneshot::channel();
    // The caller may have given up.
    start(Box::new(move || drop(sender.send(work())))).map_err(|err| failed(SqlxError::Io(err)))?;
    result.await.map_err(|_| failed(SqlxError::WorkerCrashed))
}

/// Starts work on an idle thread, or on a new one.
fn start(work: Work) -> io::Result<()> {
    let idle = idle().pop();
    let work = match idle {
        Some(thread) => match thread.work.send(work) {
            Ok(()) => return Ok(()),
            Err(SendError(work)) => work,
        },
        None => work,
    };
    let thread = thread::Builder::new().name("runtrail-read".to_owned());
    thread.spawn(move || serve(work)).map(drop)
}

/// Performs work until there is none for a while.
fn serve(mut work: Work) {
    /// Starting a thread takes longer than some queries. An idle one costs little memory.
    const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

    let id = thread::current().id();
    let (sender, receiver) = mpsc::channel();
    loop {
        work();
        idle().push(IdleThread {
            id,
            work: sender.clone(),
        });
        let next = receiver.recv_timeout(IDLE_TIMEOUT).or_else(|_| {
            let mut idle = idle();
            let position = idle.iter().position(|thread| thread.id == id);
            match position {
                Some(position) => {
                    idle.remove(position);
                    Err(RecvError)
                }
                // A caller has just taken this thread, and is about to send work.
                None => {
                    drop(idle);
                    receiver.recv()
                }
            }
        });
        match next {
            Ok(next) => work = next,
            Err(RecvError) => return,
        }
    }
}

fn idle() -> MutexGuard<'static, Vec<IdleThread>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(err: SqlxError) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(Arc::new(err)))
}
