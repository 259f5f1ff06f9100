//! Who has which ids: one range a holder, none twice, remembered across restarts.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::spec::IdRange;

/// Ids of one range: as many as 16 bits name, so that every id of an image has one (KEP-127).
const SIZE: u32 = 65_536;

/// Ranges given out, a small file each.
#[derive(Debug)]
pub struct IdRanges {
    directory: PathBuf,
    /// Ranges of the host's own (`/etc/subuid`, `/etc/subgid`), which are left alone.
    foreign: Vec<(u64, u64)>,
    taken: Mutex<BTreeMap<String, u32>>,
}

impl IdRanges {
    /// Reads what was given out; the directory is made if missing.
    ///
    /// # Errors
    /// The disk's. A record that cannot be understood is removed: nobody can be known to use it.
    pub fn open(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let foreign = ["/etc/subuid", "/etc/subgid"].map(|file| fs::read_to_string(file).unwrap_or_default());
        Self::open_beside(directory.into(), &foreign.concat())
    }

    fn open_beside(directory: PathBuf, foreign: &str) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let mut taken = BTreeMap::new();
        for entry in fs::read_dir(&directory)?.flatten() {
            let Ok(holder) = entry.file_name().into_string() else { continue };
            match fs::read_to_string(entry.path()).ok().and_then(|text| text.trim().parse::<u32>().ok()) {
                Some(first) => drop(taken.insert(holder, first)),
                None => fs::remove_file(entry.path())?,
            }
        }
        let range = |line: &str| {
            let mut fields = line.split(':').skip(1).map(|field| field.trim().parse::<u64>().ok());
            let (first, count) = (fields.next()??, fields.next()??);
            Some((first, first + count))
        };
        let foreign = foreign.lines().filter_map(range).collect();
        Ok(Self { directory, foreign, taken: Mutex::new(taken) })
    }

    /// The range of `holder`, a file name: the one it has, or the lowest that nobody has, durably.
    ///
    /// # Errors
    /// The disk's, or that all ranges are taken.
    pub fn range(&self, holder: &str) -> io::Result<IdRange> {
        let mut taken = self.taken.lock();
        if let Some(first) = taken.get(holder) {
            return Ok(IdRange { first: *first, count: SIZE });
        }
        let used: std::collections::BTreeSet<u32> = taken.values().copied().collect();
        let own = |first: u32| {
            let (from, to) = (u64::from(first), u64::from(first) + u64::from(SIZE));
            self.foreign.iter().any(|(begin, end)| *begin < to && from < *end)
        };
        // The first range is the host's own ids; the last one holds 2^32 − 1, which means "none".
        let first = (1..u32::MAX / SIZE).map(|index| index * SIZE).find(|first| !used.contains(first) && !own(*first));
        let first = first.ok_or_else(|| io::Error::new(io::ErrorKind::StorageFull, "all ranges of ids are taken"))?;
        write(&self.directory.join(holder), &format!("{first}\n"))?;
        taken.insert(holder.to_owned(), first);
        Ok(IdRange { first, count: SIZE })
    }

    /// The range `holder` has, if any.
    pub fn find(&self, holder: &str) -> Option<IdRange> {
        self.taken.lock().get(holder).map(|first| IdRange { first: *first, count: SIZE })
    }

    /// Takes a range back, once nothing runs with it. Fine if there is none.
    pub fn release(&self, holder: &str) {
        if self.taken.lock().remove(holder).is_some() {
            let _ = fs::remove_file(self.directory.join(holder));
        }
    }

    /// Takes back what nobody among `live` holds (once, after a restart).
    pub fn keep_only(&self, live: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self.taken.lock().keys().filter(|holder| !live(holder)).cloned().collect();
        for holder in gone {
            self.release(&holder);
        }
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_file_name(".new");
    let mut file = fs::File::create(&temporary)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_overlap_and_are_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let open = || IdRanges::open_beside(directory.path().to_owned(), "me:100000:65536\n").unwrap();
        let ids = open();
        let (a, b) = (ids.range("a").unwrap(), ids.range("b").unwrap());
        // 65,536 to 131,071 and the next touch those of a user of the host.
        assert_eq!((a.first, b.first), (196_608, 262_144));
        assert_eq!(ids.range("a").unwrap(), a);
        drop(ids);
        let ids = open();
        assert_eq!((ids.find("a"), ids.range("c").unwrap().first), (Some(a), 327_680));
        ids.keep_only(|holder| holder != "a");
        assert_eq!(ids.find("a"), None);
        assert_eq!(ids.range("d").unwrap(), a);
        assert_eq!(open().range("b").unwrap(), b);
    }
}
