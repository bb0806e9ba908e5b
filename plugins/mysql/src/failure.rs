//! Which failures are worth another try.
//!
//! While rows are written, a failure is final only where it is about the row: a constraint, a type, a value too large. Everything else
//! (the server is away, read-only, out of space, the table is being rebuilt, the password was changed) is the outside's, and the rows wait.
//! While connecting, what the user wrote may be to blame: a wrong password or a missing table is final there.

use kuiper_plugin::Error;
use mysql_async::{DriverError, Error as Sql};

/// Errors about a row whose SQLSTATE does not say so.
const ABOUT_THE_ROW: &[u16] = &[
    1118, // row too large
    1153, // packet too large
    1263, 1264, 1265, 1292, 1364, 1366, 1411, 1416, 1441, // values that a column cannot hold, or lacks
    1442, 1526, 1690, 1748, // triggers, partitions, ranges
    1525, 1906, 1907, 3105, 3140, 3819, 4025, // wrong values, generated columns, JSON, CHECK
];

/// Errors for which the user is to blame while connecting.
const ABOUT_THE_SETUP: &[u16] = &[1044, 1045, 1049, 1142, 1143, 1146, 1193, 1231, 1273, 1698];

/// A failure while rows are written.
pub fn writing(error: Sql) -> Error {
    match error {
        Sql::Server(told) if is_about_the_row(told.code, &told.state) => Error::never(told.message),
        Sql::Server(told) if told.code == 1064 => Error::bug(told.message),
        other => away(other),
    }
}

/// Errors for which a statement that reads is to blame, or who may not execute it.
const ABOUT_THE_STATEMENT: &[u16] = &[1044, 1046, 1049, 1054, 1064, 1142, 1143, 1146, 1222, 1267, 1305, 1318, 1370];

/// A failure while reading.
pub fn reading(error: Sql) -> Error {
    match error {
        Sql::Server(told) if ABOUT_THE_STATEMENT.contains(&told.code) => Error::never(told.message),
        other => away(other),
    }
}

/// A failure while connecting.
pub fn connecting(error: Sql) -> Error {
    match error {
        Sql::Server(told) if ABOUT_THE_SETUP.contains(&told.code) || told.code == 1064 => Error::never(told.message),
        Sql::Driver(DriverError::UnknownAuthPlugin { name }) => {
            Error::never(format!("the server asks for the authentication `{name}`, which is not known here"))
        }
        Sql::Driver(DriverError::NoClientSslFlagFromServer) => {
            Error::never("the server has no TLS, and parameter `tls` asks for it")
        }
        other => away(other),
    }
}

fn away(error: Sql) -> Error {
    Error::later(match error {
        Sql::Server(told) => told.message,
        Sql::Io(error) => root(&error),
        Sql::Driver(DriverError::ConnectionClosed) => "the server closed the connection".to_owned(),
        other => root(&other),
    })
}

fn is_about_the_row(code: u16, state: &str) -> bool {
    const CLASSES: [&str; 5] = ["21", "22", "23", "44", "45"];
    CLASSES.iter().any(|class| state.starts_with(class)) || ABOUT_THE_ROW.contains(&code)
}

/// The innermost cause: the wrappers around it say nothing, and the system's number says no more than its words.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let words = |text: String| text.split(" (os error").next().unwrap_or_default().to_owned();
    error.source().map_or_else(|| words(error.to_string()), root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mysql_async::ServerError;

    fn server(code: u16, state: &str) -> Sql {
        Sql::Server(ServerError { code, state: state.to_owned(), message: "text".to_owned() })
    }

    #[test]
    fn only_rows_are_refused_for_good_while_writing() {
        for (code, state) in [(1062, "23000"), (1406, "22001"), (1366, "HY000"), (4025, "23000"), (1644, "45000")] {
            assert_eq!(writing(server(code, state)), Error::never("text"), "{code}");
        }
        for (code, state) in
            [(1205, "HY000"), (1213, "40001"), (1053, "08S01"), (1290, "HY000"), (1146, "42S02"), (1045, "28000")]
        {
            assert_eq!(writing(server(code, state)), Error::later("text"), "{code}");
        }
        assert_eq!(writing(server(1064, "42000")), Error::bug("text"));
    }

    #[test]
    fn a_wrong_password_is_final_while_connecting() {
        assert_eq!(connecting(server(1045, "28000")), Error::never("text"));
        assert_eq!(connecting(server(1040, "08004")), Error::later("text"));
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "refused");
        assert_eq!(connecting(Sql::from(refused)), Error::later("refused"));
        let refused = std::io::Error::from_raw_os_error(111);
        assert_eq!(connecting(Sql::from(refused)), Error::later("Connection refused"));
    }
}
