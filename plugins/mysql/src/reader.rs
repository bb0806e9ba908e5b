//! A connection that is read from: opened when it is needed, dropped when it breaks.

use std::time::{Duration, Instant};

use kuiper_plugin::{Context, Error, Owned, Record, Result, Time};
use mysql_async::consts::{ColumnFlags, ColumnType};
use mysql_async::prelude::Queryable;
use mysql_async::{Column, Conn, Error as Sql, Params, Row, Value as Cell};
use tokio::runtime::{Builder, Runtime};

use crate::address::Address;
use crate::failure::reading;
use crate::session::{limited, opened};

/// After so long a rest the connection is asked whether it still stands.
const REST: Duration = Duration::from_secs(2);
/// The character set of what is no text.
const BINARY: u16 = 63;

/// It blocks: the runtime within is its own.
pub struct Reader {
    runtime: Runtime,
    address: Address,
    open: Option<(Conn, Instant)>,
}

impl Reader {
    pub fn new(address: Address) -> Result<Reader> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Reader { runtime, address, open: None })
    }

    /// Opens the connection if there is none.
    pub fn connect(&mut self, context: &Context) -> Result<()> {
        if let Some((connection, used)) = self.open.as_mut() {
            let rested = used.elapsed() > REST;
            if rested && !matches!(limited(&self.runtime, REST, connection.ping()), Ok(Ok(()))) {
                self.drop_connection();
            }
        }
        if self.open.is_some() {
            return Ok(());
        }
        context.connecting();
        let made = limited(&self.runtime, self.address.connect_limit, opened(&self.address)).and_then(|made| made);
        match made {
            Ok(connection) => {
                context.connected();
                self.open = Some((connection, Instant::now()));
                Ok(())
            }
            Err(error) => {
                let error = error.at(self.address.shown());
                context.disconnected(error.to_string());
                Err(error)
            }
        }
    }

    /// What a statement gives.
    pub fn rows(&mut self, context: &Context, statement: &str, values: Vec<Cell>) -> Result<Vec<Row>> {
        self.connect(context)?;
        let Some((connection, used)) = self.open.as_mut() else { return Err(Error::later("there is no connection")) };
        let params = if values.is_empty() { Params::Empty } else { Params::Positional(values) };
        let asked = limited(&self.runtime, self.address.collect_limit, connection.exec(statement, params));
        *used = Instant::now();
        let error = match asked {
            Ok(Ok(rows)) => return Ok(rows),
            Ok(Err(error)) => {
                if !matches!(error, Sql::Server(_)) {
                    self.drop_connection();
                }
                reading(error)
            }
            Err(late) => {
                self.drop_connection();
                late
            }
        };
        let error = error.at(self.address.shown());
        if self.open.is_none() {
            context.disconnected(error.to_string());
        }
        Err(error)
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
        if let Some((connection, _)) = self.open.take() {
            // The server finds out by itself if this fails.
            let _ = limited(&self.runtime, REST, connection.disconnect());
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.drop_connection();
    }
}

/// The columns of a row from this one on.
pub fn record(row: &Row, from: usize) -> Record {
    let columns = row.columns_ref().iter().enumerate().skip(from);
    columns.map(|(n, column)| (column.name_str().into_owned(), value(row.as_ref(n), column))).collect()
}

/// A cell as the rows of a stream have it.
pub fn value(cell: Option<&Cell>, column: &Column) -> Owned {
    match cell {
        None | Some(Cell::NULL) => Owned::Null,
        Some(Cell::Int(int)) => Owned::Int(*int),
        Some(Cell::UInt(int)) => i64::try_from(*int).map_or(Owned::Float(*int as f64), Owned::Int),
        Some(Cell::Float(float)) => Owned::Float(f64::from(*float)),
        Some(Cell::Double(float)) => Owned::Float(*float),
        Some(Cell::Date(year, month, day, hour, minute, second, micros)) => {
            instant([*year, (*month).into(), (*day).into()], [*hour, *minute, *second], *micros)
        }
        Some(Cell::Time(negative, days, hours, minutes, seconds, micros)) => {
            let sign = if *negative { "-" } else { "" };
            let hours = days * 24 + u32::from(*hours);
            let fraction = if *micros == 0 { String::new() } else { format!(".{micros:06}") };
            Owned::Text(format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{fraction}"))
        }
        Some(Cell::Bytes(bytes)) => match column.column_type() {
            ColumnType::MYSQL_TYPE_DECIMAL | ColumnType::MYSQL_TYPE_NEWDECIMAL => {
                let text = String::from_utf8_lossy(bytes);
                text.parse().map_or_else(|_| Owned::Text(text.into_owned()), Owned::Float)
            }
            // MariaDB's JSON is a text, MySQL's says that it is binary.
            ColumnType::MYSQL_TYPE_JSON => Owned::Text(String::from_utf8_lossy(bytes).into_owned()),
            _ if column.character_set() == BINARY && column.flags().contains(ColumnFlags::BINARY_FLAG) => {
                Owned::Bytes(bytes.clone())
            }
            _ => Owned::Text(String::from_utf8_lossy(bytes).into_owned()),
        },
    }
}

/// The connection's time zone is UTC. The server's date of nothing, `0000-00-00`, is none.
fn instant([year, month, day]: [u16; 3], [hour, minute, second]: [u8; 3], micros: u32) -> Owned {
    if month == 0 || day == 0 {
        return Owned::Null;
    }
    let days = crate::cell::days(year.into(), month.into(), day.into());
    let seconds = days * 86_400 + i64::from(hour) * 3_600 + i64::from(minute) * 60 + i64::from(second);
    match seconds.checked_mul(1_000_000_000).and_then(|nanos| nanos.checked_add(i64::from(micros) * 1_000)) {
        Some(nanos) => Owned::Time(Time::utc(nanos)),
        None => Owned::Text(format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")),
    }
}

/// A value as it is bound; objects and lists are no values of a column.
pub fn bound(value: &Owned) -> Cell {
    match value {
        Owned::Null => Cell::NULL,
        Owned::Bool(value) => Cell::Int((*value).into()),
        Owned::Int(value) => Cell::Int(*value),
        Owned::Float(value) => Cell::Double(*value),
        Owned::Text(value) => Cell::Bytes(value.as_bytes().to_vec()),
        Owned::Bytes(value) => Cell::Bytes(value.clone()),
        Owned::Time(time) => {
            let at = Time::utc(time.nanos).civil();
            let year = u16::try_from(at.year).unwrap_or(0);
            Cell::Date(year, at.month, at.day, at.hour, at.minute, at.second, at.nano / 1_000)
        }
        other => Cell::Bytes(other.to_string().into_bytes()),
    }
}
