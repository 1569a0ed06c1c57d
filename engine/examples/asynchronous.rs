//! Futures without any runtime: a few lines of executor are enough. Any other will do.
//!
//! `cargo run --release --example asynchronous`

use ashlardb::{Durability, Options};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

/// Wakes the thread that waits for a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest executor: polls one future, sleeps until it is woken, polls again.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::path::Path::new("ashlar-async");
    let db = Options::new().cache_size(64 << 20).open(path)?;
    let users = db.keyspace("users")?;

    // Commits that are under way at the same time share flushes of the log.
    let flushes = || db.stats().log.map_or(0, |log| log.flushes);
    let before = flushes();
    let commits: Vec<_> = (0..1000u32)
        .map(|i| {
            let mut tx = db.begin()?;
            tx.insert(&users, i.to_be_bytes(), format!("user {i}"))?;
            Ok(tx.commit_async(Durability::Immediate))
        })
        .collect::<ashlardb::Result<_>>()?;
    let count = commits.len();
    block_on(async {
        for commit in commits {
            commit.await?;
        }
        ashlardb::Result::Ok(())
    })?;
    println!("{count} durable commits took {} flushes", flushes() - before);

    let found = block_on(async {
        let one = users.get_async(7u32.to_be_bytes()).await?;
        let many = users.get_many_async((0..1000u32).map(u32::to_be_bytes)).await?;
        ashlardb::Result::Ok((one, many))
    })?;
    println!("{:?}, and {} of 1000", found.0, found.1.iter().flatten().count());
    drop(users);
    db.close()?;
    std::fs::remove_dir_all(path)?;
    Ok(())
}
