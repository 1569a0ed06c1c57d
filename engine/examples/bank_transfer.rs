//! Transfers between accounts by several threads: read, decide, write, as one step, tried again where two got in each other's way.
//!
//! `cargo run --release --example bank_transfer`

use ashlardb::{Database, Durability, Error, Keyspace, Options, Transaction, TransactionOptions};

const ACCOUNTS: u32 = 20;
const OPENING: i64 = 1000;

/// Why a transfer was not made.
#[derive(Debug)]
enum Refused {
    /// The account does not hold as much.
    TooPoor(i64),
    /// The database said no.
    Database(Error),
}

impl From<Error> for Refused {
    fn from(e: Error) -> Refused {
        Refused::Database(e)
    }
}

fn balance(tx: &Transaction, accounts: &Keyspace, account: u32) -> ashlardb::Result<i64> {
    let held = tx.get(accounts, account.to_be_bytes())?;
    Ok(held.and_then(|v| v[..].try_into().ok()).map_or(0, i64::from_le_bytes))
}

/// Moves `amount`, or says why not. An error of one's own ends the transaction without effect, like any other.
fn transfer(db: &Database, accounts: &Keyspace, from: u32, to: u32, amount: i64) -> Result<(), Refused> {
    let options = TransactionOptions { durability: Some(Durability::Eventual), ..TransactionOptions::default() };
    db.transact_with(options, |tx| {
        let (held, other) = (balance(tx, accounts, from)?, balance(tx, accounts, to)?);
        if held < amount {
            return Err(Refused::TooPoor(held));
        }
        tx.insert(accounts, from.to_be_bytes(), (held - amount).to_le_bytes())?;
        tx.insert(accounts, to.to_be_bytes(), (other + amount).to_le_bytes())?;
        Ok(())
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::path::Path::new("ashlar-bank");
    let db = Options::new().cache_size(64 << 20).open(path)?;
    let accounts = db.keyspace("accounts")?;
    db.transact(|tx| (0..ACCOUNTS).try_for_each(|a| tx.insert(&accounts, a.to_be_bytes(), OPENING.to_le_bytes())))?;
    let made: u32 = std::thread::scope(|scope| {
        let clerks = (0..4u32).map(|clerk| {
            let (db, accounts) = (db.clone(), accounts.clone());
            scope.spawn(move || {
                let mut made = 0;
                for i in 0..2000u32 {
                    let (from, to) = ((clerk * 7 + i * 3) % ACCOUNTS, (clerk + i * 11 + 1) % ACCOUNTS);
                    if from == to {
                        continue;
                    }
                    match transfer(&db, &accounts, from, to, i64::from(i % 300)) {
                        Ok(()) => made += 1,
                        Err(Refused::TooPoor(held)) if i < 3 => println!("account {from} holds only {held}"),
                        Err(Refused::TooPoor(_)) => {}
                        Err(Refused::Database(e)) => return Err(e),
                    }
                }
                Ok(made)
            })
        });
        let clerks: Vec<_> = clerks.collect();
        clerks.into_iter().map(|clerk| clerk.join().unwrap_or(Ok(0))).sum::<ashlardb::Result<u32>>()
    })?;
    let sum: i64 = db.transact(|tx| (0..ACCOUNTS).map(|a| balance(tx, &accounts, a)).sum())?;
    println!("{made} transfers; {ACCOUNTS} accounts hold {sum}, as at the beginning: {}", i64::from(ACCOUNTS) * OPENING);
    db.close()?;
    std::fs::remove_dir_all(path)?;
    Ok(())
}
