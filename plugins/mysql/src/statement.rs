//! From rows to statements: as few as the server's limits allow, and none of them shaped by a value.
//!
//! Rows with the same columns share an INSERT. Where a key makes it an upsert, the order of rows with the same key is kept. Updates and
//! deletes end what came before them.

use std::collections::HashMap;

use mysql_async::Value as Sql;

use crate::cell::size;
use crate::table::{quoted, Table};

/// Placeholders that a statement may have.
const PLACEHOLDERS: usize = 65_535;
/// Bytes left for what stands around the values of a packet.
const MARGIN: usize = 4_096;

/// What is done with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Insert,
    Update,
    Delete,
}

/// A row, ready to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    pub verb: Verb,
    /// Places in the table, and what is bound for them.
    pub cells: Vec<(usize, Sql)>,
    /// Of the key, where there is one.
    pub key: Option<(usize, Sql)>,
}

/// A statement, and the values of its placeholders.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    pub text: String,
    pub values: Vec<Sql>,
}

/// Rows of one INSERT.
struct Group<'w> {
    columns: Vec<usize>,
    rows: Vec<&'w Write>,
}

/// The statements for these rows, in order.
pub fn statements(table: &Table, writes: &[Write], max_packet: usize) -> Vec<Statement> {
    let mut all = Vec::new();
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut last_group: HashMap<Vec<u8>, usize> = HashMap::new();
    for write in writes {
        if write.verb != Verb::Insert {
            all.extend(inserts(table, &std::mem::take(&mut groups), max_packet));
            last_group.clear();
            all.push(if write.verb == Verb::Update { update(table, write) } else { delete(table, write) });
            continue;
        }
        let columns: Vec<usize> = write.cells.iter().map(|(column, _)| *column).collect();
        let key = write.key.as_ref().map(|(_, value)| value.as_sql(true).into_bytes());
        // A row may join an earlier group unless a row with the same key stands in a later one.
        let earliest = key.as_ref().and_then(|key| last_group.get(key).copied()).unwrap_or(0);
        let place = (earliest..groups.len()).find(|place| groups[*place].columns == columns).unwrap_or_else(|| {
            groups.push(Group { columns, rows: Vec::new() });
            groups.len() - 1
        });
        groups[place].rows.push(write);
        if let Some(key) = key {
            last_group.insert(key, place);
        }
    }
    all.extend(inserts(table, &groups, max_packet));
    all
}

fn inserts(table: &Table, groups: &[Group<'_>], max_packet: usize) -> Vec<Statement> {
    let mut all = Vec::new();
    for group in groups {
        let most = (PLACEHOLDERS / group.columns.len().max(1)).max(1);
        let room = max_packet.saturating_sub(MARGIN);
        let mut rows: Vec<&Write> = Vec::new();
        let mut bytes = 0;
        for row in &group.rows {
            // Each value has its own bytes and those of `?, ` in the text.
            let more = row.cells.iter().map(|(_, value)| size(value) + 3).sum::<usize>() + 4;
            if !rows.is_empty() && (rows.len() == most || bytes + more > room) {
                all.push(insert(table, &group.columns, &rows));
                rows.clear();
                bytes = 0;
            }
            rows.push(row);
            bytes += more;
        }
        if !rows.is_empty() {
            all.push(insert(table, &group.columns, &rows));
        }
    }
    all
}

fn insert(table: &Table, columns: &[usize], rows: &[&Write]) -> Statement {
    let names: Vec<String> = columns.iter().map(|column| quoted(&table.columns[*column].name)).collect();
    let row = format!("({})", vec!["?"; columns.len()].join(", "));
    let mut text =
        format!("INSERT INTO {} ({}) VALUES {}", table.quoted, names.join(", "), vec![row; rows.len()].join(", "));
    if let Some((key, _)) = rows[0].key {
        let others: Vec<usize> = columns.iter().copied().filter(|column| *column != key).collect();
        // A row of nothing but its key changes nothing where it is there already.
        let set = if others.is_empty() { vec![key] } else { others };
        let set: Vec<String> = set
            .into_iter()
            .map(|column| quoted(&table.columns[column].name))
            .map(|name| format!("{name} = VALUES({name})"))
            .collect();
        text.push_str(" ON DUPLICATE KEY UPDATE ");
        text.push_str(&set.join(", "));
    }
    let values = rows.iter().flat_map(|row| row.cells.iter().map(|(_, value)| value.clone())).collect();
    Statement { text, values }
}

fn update(table: &Table, write: &Write) -> Statement {
    let key = write.key.as_ref().map_or(0, |(column, _)| *column);
    let cells: Vec<&(usize, Sql)> = write.cells.iter().filter(|(column, _)| *column != key).collect();
    // Where only the key is given there is nothing to change, and the statement must still be one.
    let set = if cells.is_empty() {
        format!("{0} = {0}", quoted(&table.columns[key].name))
    } else {
        cells
            .iter()
            .map(|(column, _)| format!("{} = ?", quoted(&table.columns[*column].name)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let text = format!("UPDATE {} SET {set} WHERE {} = ?", table.quoted, quoted(&table.columns[key].name));
    let values = cells.into_iter().map(|(_, value)| value.clone()).chain(key_value(write)).collect();
    Statement { text, values }
}

fn delete(table: &Table, write: &Write) -> Statement {
    let key = write.key.as_ref().map_or(0, |(column, _)| *column);
    let text = format!("DELETE FROM {} WHERE {} = ?", table.quoted, quoted(&table.columns[key].name));
    Statement { text, values: key_value(write).collect() }
}

fn key_value(write: &Write) -> impl Iterator<Item = Sql> + '_ {
    write.key.iter().map(|(_, value)| value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Column, Type};

    const ROOM: usize = 1 << 20;

    fn table() -> Table {
        let column = |name: &str| Column { name: name.to_owned(), kind: Type::Other };
        Table {
            quoted: "`t`".to_owned(),
            name: "t".to_owned(),
            columns: ["id", "a", "b`"].map(column).into(),
            keys: vec!["id".to_owned()],
        }
    }

    fn write(verb: Verb, keyed: bool, cells: &[(usize, i64)]) -> Write {
        let cells: Vec<(usize, Sql)> = cells.iter().map(|(column, value)| (*column, Sql::Int(*value))).collect();
        let key = cells.iter().find(|(column, _)| keyed && *column == 0).cloned();
        Write { verb, cells, key }
    }

    fn texts(writes: &[Write]) -> Vec<String> {
        statements(&table(), writes, ROOM).into_iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn rows_with_the_same_columns_share_a_statement() {
        let of = |cells: &[(usize, i64)]| write(Verb::Insert, false, cells);
        let all = [of(&[(0, 1), (1, 2)]), of(&[(0, 3), (2, 4)]), of(&[(0, 5), (1, 6)])];
        let made = statements(&table(), &all, ROOM);
        assert_eq!(made[0].text, "INSERT INTO `t` (`id`, `a`) VALUES (?, ?), (?, ?)");
        assert_eq!(made[0].values, [1, 2, 5, 6].map(Sql::Int));
        assert_eq!(made[1].text, "INSERT INTO `t` (`id`, `b```) VALUES (?, ?)");
        assert_eq!(made.len(), 2);
    }

    #[test]
    fn a_key_makes_it_an_upsert_that_keeps_the_order_of_a_key() {
        let of = |cells: &[(usize, i64)]| write(Verb::Insert, true, cells);
        let all = [of(&[(0, 1), (1, 1)]), of(&[(0, 1), (1, 2), (2, 2)]), of(&[(0, 1), (1, 3)]), of(&[(0, 2), (1, 4)])];
        let made = statements(&table(), &all, ROOM);
        assert_eq!(
            made[0].text,
            "INSERT INTO `t` (`id`, `a`) VALUES (?, ?), (?, ?) ON DUPLICATE KEY UPDATE `a` = VALUES(`a`)"
        );
        assert_eq!(made[0].values, [1, 1, 2, 4].map(Sql::Int));
        assert_eq!(made[1].values, [1, 2, 2].map(Sql::Int));
        assert_eq!(made[2].values, [1, 3].map(Sql::Int));
        assert_eq!(
            texts(&[of(&[(0, 1)])]),
            ["INSERT INTO `t` (`id`) VALUES (?) ON DUPLICATE KEY UPDATE `id` = VALUES(`id`)"]
        );
    }

    #[test]
    fn updates_and_deletes_stand_where_they_came() {
        let all = [
            write(Verb::Insert, true, &[(0, 1), (1, 1)]),
            write(Verb::Update, true, &[(0, 1), (1, 2)]),
            write(Verb::Delete, true, &[(0, 1), (1, 2)]),
            write(Verb::Insert, true, &[(0, 1), (1, 3)]),
            write(Verb::Update, true, &[(0, 1)]),
        ];
        let made = statements(&table(), &all, ROOM);
        assert!(made[0].text.starts_with("INSERT"));
        assert_eq!((made[1].text.as_str(), made[1].values.len()), ("UPDATE `t` SET `a` = ? WHERE `id` = ?", 2));
        assert_eq!((made[2].text.as_str(), made[2].values.len()), ("DELETE FROM `t` WHERE `id` = ?", 1));
        assert!(made[3].text.starts_with("INSERT"));
        assert_eq!((made[4].text.as_str(), made[4].values.len()), ("UPDATE `t` SET `id` = `id` WHERE `id` = ?", 1));
    }

    #[test]
    fn the_limits_of_the_server_split_statements() {
        let row = write(Verb::Insert, false, &[(0, 1), (1, 2)]);
        let many = vec![row; 40_000];
        let made = statements(&table(), &many, 64 << 20);
        assert_eq!(made.iter().map(|one| one.values.len()).collect::<Vec<_>>(), [65_534, 14_466]);

        let long = Write { verb: Verb::Insert, cells: vec![(1, Sql::Bytes(vec![b'x'; 1_000]))], key: None };
        let made = statements(&table(), &vec![long; 100], 50_000 + MARGIN);
        assert_eq!(made.iter().map(|one| one.values.len()).collect::<Vec<_>>(), [49, 49, 2]);
    }
}
