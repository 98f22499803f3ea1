//! Rows into a database whose server has stopped.

use std::path::Path;

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, params_from_iter};

use super::rows::{Population, Rows, Value};
use crate::failure::{Context, Failure};
use crate::postgres::Cluster;

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Boolean(is_so) => ValueRef::Integer((*is_so).into()),
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Octets(octets) => ValueRef::Blob(octets),
        }))
    }
}

impl Value {
    /// As COPY reads it, in text format.
    fn copied(&self, line: &mut String) {
        match self {
            Self::Null => line.push_str("\\N"),
            Self::Boolean(is_so) => line.push(if *is_so { 't' } else { 'f' }),
            Self::Integer(number) => line.push_str(&number.to_string()),
            Self::Text(text) => text.chars().for_each(|it| match it {
                '\\' => line.push_str("\\\\"),
                '\n' => line.push_str("\\n"),
                '\r' => line.push_str("\\r"),
                '\t' => line.push_str("\\t"),
                it => line.push(it),
            }),
            Self::Octets(octets) => {
                line.push_str("\\\\x");
                for octet in octets {
                    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
                    line.push(digit(octet >> 4));
                    line.push(digit(octet & 15));
                }
            }
        }
    }
}

/// Into SQLite's file.
pub(super) fn sqlite(path: &Path, population: &Population) -> Result<(), Failure> {
    fill_sqlite(path, population).context(|| format!("cannot fill {}", path.display()))
}

fn fill_sqlite(path: &Path, population: &Population) -> rusqlite::Result<()> {
    let mut database = Connection::open(path)?;
    // Whoever made it is gone, and what comes to grief here is thrown away.
    database.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF; PRAGMA cache_size = -1000000;",
    )?;
    let indexes: Vec<(String, String)> = database
        .prepare("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")?
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let transaction = database.transaction()?;
    for (name, _) in &indexes {
        transaction.execute_batch(&format!("DROP INDEX {name}"))?;
    }
    for rows in population.tables() {
        let mut insert = transaction.prepare(&insertion(&rows))?;
        for number in 0..rows.count {
            insert.execute(params_from_iter((rows.row)(number)))?;
        }
        println!("growth: sqlite: {} rows in {}", rows.count, rows.table);
    }
    for (_, sql) in &indexes {
        transaction.execute_batch(sql)?;
    }
    transaction.execute_batch(&count_revoked(population))?;
    transaction.commit()?;
    // As the server leaves it.
    database.execute_batch("PRAGMA journal_mode = WAL;")
}

fn insertion(rows: &Rows<'_>) -> String {
    let places = vec!["?"; rows.columns.len()].join(", ");
    format!("INSERT INTO {} ({}) VALUES ({places})", rows.table, rows.columns.join(", "))
}

/// A CRL that was made before lacks them.
fn count_revoked(population: &Population) -> String {
    format!("UPDATE counters SET value = value + {} WHERE name = 'revocations'", population.revoked)
}

/// Into a database of a cluster.
pub(super) fn postgres(cluster: &Cluster, database: &str, population: &Population) -> Result<(), Failure> {
    for rows in population.tables() {
        let copy = format!("COPY {} ({}) FROM STDIN", rows.table, rows.columns.join(", "));
        cluster.feed(database, &copy, |to| {
            let mut line = String::new();
            for number in 0..rows.count {
                line.clear();
                for value in (rows.row)(number) {
                    value.copied(&mut line);
                    line.push('\t');
                }
                // Tabs stand between values.
                line.pop();
                line.push('\n');
                to.write_all(line.as_bytes())?;
            }
            Ok(())
        })?;
        println!("growth: postgres: {} rows in {}", rows.count, rows.table);
    }
    // What autovacuum would have done by the time that there are so many.
    for sql in [&count_revoked(population), "VACUUM ANALYZE", "CHECKPOINT"] {
        cluster.query(database, sql)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_copied_in_text_format() {
        let mut line = String::new();
        let values = [
            Value::Null,
            Value::Boolean(true),
            Value::Integer(-7),
            Value::Text("a\tb\\c\n".to_owned()),
            Value::Octets(vec![0x0f, 0xa0]),
        ];
        for value in values {
            value.copied(&mut line);
            line.push('|');
        }
        assert_eq!(line, "\\N|t|-7|a\\tb\\\\c\\n|\\\\x0fa0|");
    }
}
