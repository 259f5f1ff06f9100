//! The log on disk: one row a change, in a redb table whose keys rise with the revision. Everything else
//! (which version of a key is the latest, what may be forgotten) is worked out from it when it is opened.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::RwLock;
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
};

use crate::{Entry, Error, Revision};

type RowKey = [u8; 12];
const LOG: TableDefinition<&RowKey, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// Layout of the rows; raised when it changes.
const FORMAT: u64 = 1;

/// The engine's page cache. Small, because the values that are asked for again live in the index.
const PAGE_CACHE_BYTES: usize = 4 << 20;

/// The place of one change in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The transaction's revision.
    pub revision: Revision,
    /// Counts the changes within the transaction.
    pub part: u32,
}

/// One change, as it is written.
pub(super) struct Row<'a> {
    pub place: Place,
    pub key: &'a str,
    /// 0 marks a deletion.
    pub create_revision: Revision,
    /// The live version that this change replaces.
    pub previous: Option<Place>,
    pub value: &'a [u8],
}

/// What compaction has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Horizon {
    /// The oldest revision that can be read.
    pub oldest: Revision,
    /// The store's revision at that time: the rows that bore it may be gone.
    pub revision: Revision,
}

/// What one durable commit does.
#[derive(Default)]
pub(super) struct Commit<'a> {
    pub rows: Vec<Row<'a>>,
    pub deletes: Vec<Place>,
    pub horizon: Option<Horizon>,
}

/// The open log. After a failed write it has to be [reopened](Log::reopen).
pub(super) struct Log {
    path: PathBuf,
    state: RwLock<State>,
}

enum State {
    Open(Database),
    /// Reopening failed, with this message.
    Failed(String),
    Closed,
}

impl Log {
    pub fn open(path: PathBuf) -> Result<Self, Error> {
        let refused = |e: redb::Error| Error::Open(format!("{}: {e}", path.display()));
        if !path.try_exists().map_err(|e| refused(e.into()))? {
            create(&path).map_err(refused)?;
        }
        let database = open(&path).map_err(refused)?;
        Ok(Self { path, state: RwLock::new(State::Open(database)) })
    }

    /// Writes all of it and waits until it is on the disk, or changes nothing.
    pub fn commit(&self, commit: &Commit<'_>) -> Result<(), redb::Error> {
        let state = self.state.read();
        let State::Open(database) = &*state else { return Err(redb::Error::DatabaseClosed) };
        let txn = database.begin_write()?;
        let mut log = txn.open_table(LOG)?;
        let mut buffer = Vec::new();
        for row in &commit.rows {
            row.encode(&mut buffer);
            log.insert(&row.place.encode(), buffer.as_slice())?;
        }
        for place in &commit.deletes {
            log.remove(&place.encode())?;
        }
        drop(log);
        if let Some(horizon) = commit.horizon {
            let mut meta = txn.open_table(META)?;
            meta.insert("oldest", horizon.oldest)?;
            meta.insert("revision", horizon.revision)?;
        }
        txn.commit()?;
        Ok(())
    }

    /// Brings the engine back to its last durable state after a failed commit, and says the last revision in it.
    pub fn reopen(&self) -> Result<Revision, Error> {
        let mut state = self.state.write();
        // The old one first: it holds the lock of the file.
        *state = State::Failed(String::new());
        match open(&self.path).and_then(|database| Ok((last_revision(&database)?, database))) {
            Ok((last, database)) => {
                *state = State::Open(database);
                Ok(last)
            }
            Err(error) => {
                *state = State::Failed(error.to_string());
                Err(Error::Write(error.to_string()))
            }
        }
    }

    pub fn close(&self) {
        if let State::Open(database) = std::mem::replace(&mut *self.state.write(), State::Closed)
            && let Err(error) = database.close()
        {
            tracing::warn!(%error, "the store's file was not closed cleanly; the next start checks it");
        }
    }

    /// A view of the log as it is now, whatever is committed or removed later.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        match &*self.state.read() {
            State::Open(database) => Snapshot::of(database).map_err(read_error),
            State::Failed(why) => Err(Error::Read(format!("after a failed write the file can't be reopened: {why}"))),
            State::Closed => Err(Error::Closed),
        }
    }
}

/// A consistent view of the log.
pub(super) struct Snapshot {
    log: ReadOnlyTable<&'static RowKey, &'static [u8]>,
    txn: ReadTransaction,
}

impl Snapshot {
    fn of(database: &Database) -> Result<Self, redb::Error> {
        let txn = database.begin_read()?;
        Ok(Self { log: txn.open_table(LOG)?, txn })
    }

    pub fn horizon(&self) -> Result<Horizon, Error> {
        let read = || -> Result<Horizon, redb::Error> {
            let meta = self.txn.open_table(META)?;
            let number = |name| Ok::<_, redb::Error>(meta.get(name)?.map_or(0, |v| v.value()));
            Ok(Horizon { oldest: number("oldest")?, revision: number("revision")? })
        };
        read().map_err(read_error)
    }

    /// The number of rows.
    pub fn len(&self) -> Result<u64, Error> {
        self.log.len().map_err(read_error)
    }

    /// The entry written at `place`; `None` if there is no such row or it is a deletion.
    pub fn entry(&self, place: Place) -> Result<Option<Entry>, Error> {
        let Some(row) = ReadableTable::get(&self.log, &place.encode()).map_err(read_error)? else { return Ok(None) };
        Ok(Row::decode(place, row.value())?.entry())
    }

    /// Shows the rows from `from` on, in order, until there are no more or `visit` says `false`.
    pub fn scan(&self, from: Revision, mut visit: impl FnMut(Row<'_>) -> Result<bool, Error>) -> Result<(), Error> {
        let start = Place { revision: from, part: 0 }.encode();
        for row in ReadableTable::range::<&RowKey>(&self.log, &start..).map_err(read_error)? {
            let (place, row) = row.map_err(read_error)?;
            if !visit(Row::decode(Place::decode(place.value()), row.value())?)? {
                break;
            }
        }
        Ok(())
    }
}

/// Makes the file under another name first: killed at any point, there is a whole one or none.
fn create(path: &Path) -> Result<(), redb::Error> {
    let unfinished = path.with_extension("new");
    match std::fs::remove_file(&unfinished) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }
    let database = Database::builder().set_cache_size(PAGE_CACHE_BYTES).create(&unfinished)?;
    let txn = database.begin_write()?;
    txn.open_table(LOG)?;
    txn.open_table(META)?.insert("format", FORMAT)?;
    txn.commit()?;
    database.close()?;
    std::fs::rename(&unfinished, path)?;
    if let Some(directory) = path.parent() {
        std::fs::File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Opens what is there; on a full disk too, so it writes nothing.
fn open(path: &Path) -> Result<Database, redb::Error> {
    let database = Database::builder().set_cache_size(PAGE_CACHE_BYTES).open(path)?;
    let format = database.begin_read()?.open_table(META)?.get("format")?.map(|v| v.value());
    if format != Some(FORMAT) {
        let message = format!("the store has layout {format:?}, this program knows layout {FORMAT}");
        return Err(redb::Error::Corrupted(message));
    }
    Ok(database)
}

fn last_revision(database: &Database) -> Result<Revision, redb::Error> {
    let snapshot = Snapshot::of(database)?;
    Ok(snapshot.log.last()?.map_or(0, |(place, _)| Place::decode(place.value()).revision))
}

fn read_error(error: impl Into<redb::Error>) -> Error {
    Error::Read(error.into().to_string())
}

impl Place {
    fn encode(self) -> RowKey {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.revision.to_be_bytes());
        bytes[8..].copy_from_slice(&self.part.to_be_bytes());
        bytes
    }

    fn decode(bytes: &RowKey) -> Self {
        let (revision, part) = bytes.split_at(8);
        Self {
            revision: u64::from_be_bytes(revision.try_into().expect("split at 8")),
            part: u32::from_be_bytes(part.try_into().expect("12 - 8 = 4")),
        }
    }
}

/// On disk: create_revision 8 bytes, previous place 12 (zeros: none), length of the key 4, the key, the value.
impl<'a> Row<'a> {
    fn encode(&self, buffer: &mut Vec<u8>) {
        buffer.clear();
        buffer.extend_from_slice(&self.create_revision.to_be_bytes());
        buffer.extend_from_slice(&self.previous.unwrap_or(Place { revision: 0, part: 0 }).encode());
        let key_len = u32::try_from(self.key.len()).expect("keys are checked to be shorter when they come in");
        buffer.extend_from_slice(&key_len.to_be_bytes());
        buffer.extend_from_slice(self.key.as_bytes());
        buffer.extend_from_slice(self.value);
    }

    fn decode(place: Place, bytes: &'a [u8]) -> Result<Self, Error> {
        let parse = || {
            let (create, rest) = bytes.split_first_chunk::<8>()?;
            let (previous, rest) = rest.split_first_chunk::<12>()?;
            let (key_len, rest) = rest.split_first_chunk::<4>()?;
            let (key, value) = rest.split_at_checked(u32::from_be_bytes(*key_len) as usize)?;
            let previous = Place::decode(previous);
            Some(Self {
                place,
                key: std::str::from_utf8(key).ok()?,
                create_revision: u64::from_be_bytes(*create),
                previous: (previous.revision != 0).then_some(previous),
                value,
            })
        };
        parse().ok_or_else(|| Error::Read(format!("the row of revision {} is damaged", place.revision)))
    }

    /// Whether this is a put.
    pub fn live(&self) -> bool {
        self.create_revision != 0
    }

    /// The entry that a put made.
    pub fn entry(&self) -> Option<Entry> {
        self.live().then(|| Entry {
            key: Arc::from(self.key),
            value: Bytes::copy_from_slice(self.value),
            create_revision: self.create_revision,
            mod_revision: self.place.revision,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: usize = 24;

    #[test]
    fn a_row_survives_encoding() {
        let place = Place { revision: 7, part: 2 };
        let row = Row {
            place,
            key: "/registry/a",
            create_revision: 3,
            previous: Some(Place { revision: 5, part: 1 }),
            value: b"value",
        };
        let mut bytes = Vec::new();
        row.encode(&mut bytes);
        assert_eq!(bytes.len(), HEADER + row.key.len() + row.value.len());
        let back = Row::decode(place, &bytes).expect("it was encoded just now");
        assert_eq!((back.key, back.create_revision, back.previous, back.value), (row.key, 3, row.previous, row.value));
    }

    #[test]
    fn a_short_row_is_an_error_and_no_panic() {
        for len in 0..HEADER + 2 {
            let mut bytes = vec![0; len];
            if len >= HEADER {
                bytes[23] = 9;
            }
            assert!(Row::decode(Place { revision: 1, part: 0 }, &bytes).is_err(), "length {len}");
        }
    }

    #[test]
    fn places_sort_as_their_bytes_do() {
        let a = Place { revision: 255, part: 9 }.encode();
        let b = Place { revision: 256, part: 0 }.encode();
        assert!(a < b);
        assert_eq!(Place::decode(&b), Place { revision: 256, part: 0 });
    }
}
