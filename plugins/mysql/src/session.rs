//! The connection: opened when it is needed, dropped when it breaks.

use std::future::Future;
use std::time::{Duration, Instant};

use kuiper_plugin::{Context, Error, Result};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error as Sql, Params};
use tokio::runtime::{Builder, Runtime};

use crate::address::{Address, Tls};
use crate::failure::{connecting, writing};
use crate::statement::{statements, Statement, Write};
use crate::table::Table;

/// After so long a rest the connection is asked whether it still stands before a row is given to it.
const REST: Duration = Duration::from_secs(2);

/// A connection to one server for one table. It blocks: the runtime within is its own.
pub struct Session {
    runtime: Runtime,
    address: Address,
    table: String,
    open: Option<Open>,
}

struct Open {
    connection: Conn,
    table: Table,
    max_packet: usize,
    used: Instant,
}

/// What became of a run of rows.
pub enum Outcome {
    /// All are in the table.
    Written,
    /// None is, for one of them is refused.
    Refused(Error),
}

impl Session {
    pub fn new(address: Address, table: String) -> Result<Session> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Session { runtime, address, table, open: None })
    }

    /// Opens the connection if there is none, and asks for the table's columns.
    pub fn connect(&mut self, context: &Context) -> Result<()> {
        if self.rested() {
            let open = self.open.as_mut();
            let alive = open.map_or(Ok(Ok(())), |open| limited(&self.runtime, REST, open.connection.ping()));
            if !matches!(alive, Ok(Ok(()))) {
                self.drop_connection();
            }
        }
        if self.open.is_some() {
            return Ok(());
        }
        context.connecting();
        let limit = self.address.connect_limit;
        let opened = limited(&self.runtime, limit, open(&self.address, &self.table)).and_then(|opened| opened);
        match opened {
            Ok(open) => {
                context.connected();
                self.open = Some(open);
                Ok(())
            }
            Err(error) => {
                let error = error.at(self.address.shown());
                context.disconnected(error.to_string());
                Err(error)
            }
        }
    }

    fn rested(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.used.elapsed() > REST)
    }

    /// The table; only after [`connect`](Session::connect).
    pub fn table(&self) -> Result<&Table> {
        self.open.as_ref().map(|open| &open.table).ok_or_else(|| Error::later("there is no connection"))
    }

    /// Asks for the table's columns again.
    pub fn look_again(&mut self) -> Result<()> {
        let open = self.open.as_mut().ok_or_else(|| Error::later("there is no connection"))?;
        let asked = limited(&self.runtime, self.address.collect_limit, Table::read(&mut open.connection, &self.table))?;
        match asked.map_err(writing)? {
            Some(table) => open.table = table,
            None => return Err(Error::later(format!("table `{}` is gone", self.table))),
        }
        Ok(())
    }

    /// Writes all rows in one transaction, in as few statements as possible.
    pub fn write(&mut self, context: &Context, writes: &[Write]) -> Result<Outcome> {
        let limit = self.address.collect_limit;
        let open = self.open.as_mut().ok_or_else(|| Error::later("there is no connection"))?;
        let all = statements(&open.table, writes, open.max_packet);
        let done = limited(&self.runtime, limit, run(&mut open.connection, &all));
        self.settled(context, done)
    }

    /// Writes rows one by one in one transaction, leaving out those that are refused; returns these.
    pub fn write_each(&mut self, context: &Context, writes: &[Write]) -> Result<Vec<(usize, Error)>> {
        let limit = self.address.collect_limit;
        let open = self.open.as_mut().ok_or_else(|| Error::later("there is no connection"))?;
        let each: Vec<Vec<Statement>> =
            writes.iter().map(|write| statements(&open.table, std::slice::from_ref(write), open.max_packet)).collect();
        let mut refused = Vec::new();
        let done = limited(&self.runtime, limit, run_each(&mut open.connection, &each, &mut refused));
        self.settled(context, done)?;
        Ok(refused)
    }

    /// A connection that failed is not used again; a refused row has been rolled back.
    fn settled(&mut self, context: &Context, done: Result<mysql_async::Result<()>>) -> Result<Outcome> {
        if let Some(open) = self.open.as_mut() {
            open.used = Instant::now();
        }
        let error = match done {
            Ok(Ok(())) => return Ok(Outcome::Written),
            Ok(Err(Sql::Driver(DriverError::PacketTooLarge))) => {
                Error::never("the row is larger than `max_allowed_packet`")
            }
            Ok(Err(error)) => writing(error),
            Err(late) => late,
        };
        if error.is_later() {
            self.drop_connection();
            let error = error.at(self.address.shown());
            context.disconnected(error.to_string());
            return Err(error);
        }
        let back = self.open.as_mut().map(|open| limited(&self.runtime, REST, open.connection.query_drop("ROLLBACK")));
        if !matches!(back, Some(Ok(Ok(())))) {
            self.drop_connection();
        }
        Ok(Outcome::Refused(error))
    }

    fn drop_connection(&mut self) {
        if let Some(open) = self.open.take() {
            // A connection wants its runtime to be there when it goes.
            let _inside = self.runtime.enter();
            drop(open);
        }
    }

    /// Says goodbye to the server.
    pub fn close(&mut self) {
        if let Some(open) = self.open.take() {
            // The server finds out by itself if this fails.
            let _ = limited(&self.runtime, REST, open.connection.disconnect());
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.drop_connection();
    }
}

/// Waits for it so long.
pub fn limited<T>(runtime: &Runtime, limit: Duration, work: impl Future<Output = T>) -> Result<T> {
    let done = runtime.block_on(async { tokio::time::timeout(limit, work).await });
    done.map_err(|_| Error::later(format!("no answer within {} s", limit.as_secs_f64())))
}

/// A connection, greeted.
pub async fn opened(address: &Address) -> Result<Conn> {
    let wants_tls = address.tls != Tls::Off;
    let connection = match Conn::new(address.options(wants_tls)).await {
        Err(Sql::Driver(DriverError::NoClientSslFlagFromServer)) if address.tls == Tls::Preferred => {
            Conn::new(address.options(false)).await
        }
        other => other,
    };
    let mut connection = connection.map_err(connecting)?;
    for greeting in address.greetings() {
        connection.query_drop(greeting).await.map_err(connecting)?;
    }
    Ok(connection)
}

async fn open(address: &Address, table: &str) -> Result<Open> {
    let mut connection = opened(address).await?;
    let max_packet: Option<usize> = connection.query_first("SELECT @@max_allowed_packet").await.map_err(connecting)?;
    let found = Table::read(&mut connection, table).await.map_err(connecting)?;
    let missing = || Error::never(format!("there is no table `{table}` that this user may see"));
    Ok(Open {
        table: found.ok_or_else(missing)?,
        connection,
        max_packet: max_packet.unwrap_or(1 << 20),
        used: Instant::now(),
    })
}

async fn run(connection: &mut Conn, all: &[Statement]) -> mysql_async::Result<()> {
    match all {
        // One statement is a transaction of its own.
        [only] => execute(connection, only).await,
        several => {
            connection.query_drop("START TRANSACTION").await?;
            for statement in several {
                execute(connection, statement).await?;
            }
            connection.query_drop("COMMIT").await
        }
    }
}

async fn run_each(
    connection: &mut Conn,
    each: &[Vec<Statement>],
    refused: &mut Vec<(usize, Error)>,
) -> mysql_async::Result<()> {
    connection.query_drop("START TRANSACTION").await?;
    for (row, all) in each.iter().enumerate() {
        for statement in all {
            match execute(connection, statement).await {
                Ok(()) => {}
                // The server takes back the statement alone; the transaction goes on.
                Err(Sql::Server(told)) => match writing(Sql::Server(told.clone())) {
                    error if error.is_later() => return Err(Sql::Server(told)),
                    error => refused.push((row, error)),
                },
                Err(other) => return Err(other),
            }
        }
    }
    connection.query_drop("COMMIT").await
}

async fn execute(connection: &mut Conn, statement: &Statement) -> mysql_async::Result<()> {
    connection.exec_drop(statement.text.as_str(), Params::Positional(statement.values.clone())).await
}
