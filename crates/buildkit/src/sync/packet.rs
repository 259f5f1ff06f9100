//! fsutil's packets (`fsutil.types.Packet`), and modes as Go has them (`io/fs.FileMode`).

use grpc::{Fields, Message};

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packet {
    /// A file of the tree; its id is its place among those that came.
    Stat(Stat),
    /// There are no more.
    LastStat,
    /// The receiver wants a file's contents.
    Request(u32),
    /// A piece of them; an empty one is their end.
    Data(u32, Vec<u8>),
    /// The receiver has what it wanted, and the sender says so too.
    Finished,
    /// It went wrong on the other side.
    Error(String),
}

/// A file (`fsutil.types.Stat`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Below the root, with `/`.
    pub path: String,
    /// Go's.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: i64,
    /// Nanoseconds since 1970.
    pub modified: i64,
    /// Where a symbolic link leads, or the first name of a file that has several.
    pub link: String,
}

/// Go's bits of a mode.
pub(crate) mod mode {
    pub(crate) const DIRECTORY: u32 = 1 << 31;
    pub(crate) const LINK: u32 = 1 << 27;
    pub(crate) const DEVICE: u32 = 1 << 26;
    pub(crate) const PIPE: u32 = 1 << 25;
    pub(crate) const SOCKET: u32 = 1 << 24;
    pub(crate) const SETUID: u32 = 1 << 23;
    pub(crate) const SETGID: u32 = 1 << 22;
    pub(crate) const CHARACTER: u32 = 1 << 21;
    pub(crate) const STICKY: u32 = 1 << 20;
    pub(crate) const IRREGULAR: u32 = 1 << 19;
    /// What is no regular file has one of these.
    pub(crate) const KIND: u32 = DIRECTORY | LINK | DEVICE | PIPE | SOCKET | CHARACTER | IRREGULAR;

    /// The permissions as the kernel has them.
    pub(crate) fn permissions(mode: u32) -> u32 {
        let special = [(SETUID, 0o4000), (SETGID, 0o2000), (STICKY, 0o1000)];
        special.iter().filter(|(bit, _)| mode & bit != 0).fold(mode & 0o777, |all, (_, own)| all | own)
    }

    /// The other way.
    pub(crate) fn of_permissions(mode: u32) -> u32 {
        let special = [(SETUID, 0o4000), (SETGID, 0o2000), (STICKY, 0o1000)];
        special.iter().filter(|(_, own)| mode & own != 0).fold(mode & 0o777, |all, (bit, _)| all | bit)
    }
}

impl Packet {
    /// Reads one; `None` for a kind that there is not.
    pub fn read(message: &[u8]) -> Option<Self> {
        let fields = Fields::read(message);
        let id = fields.number(3) as u32;
        match fields.number(1) {
            0 => Some(fields.message(2).map_or(Self::LastStat, |stat| Self::Stat(Stat::read(&stat)))),
            1 => Some(Self::Request(id)),
            2 => Some(Self::Data(id, fields.data(4).to_vec())),
            3 => Some(Self::Finished),
            4 => Some(Self::Error(String::from_utf8_lossy(fields.data(4)).into_owned())),
            _ => None,
        }
    }

    /// As it is sent.
    pub fn message(&self) -> Message {
        let of = |kind: u64| Message::default().number(1, kind);
        match self {
            Self::Stat(stat) => of(0).message(2, &stat.message()),
            Self::LastStat => of(0),
            Self::Request(id) => of(1).number(3, u64::from(*id)),
            Self::Data(id, data) => of(2).number(3, u64::from(*id)).data(4, data),
            Self::Finished => of(3),
            Self::Error(text) => of(4).data(4, text.as_bytes()),
        }
    }
}

impl Stat {
    fn read(fields: &Fields<'_>) -> Self {
        Self {
            path: fields.text(1),
            mode: fields.number(2) as u32,
            uid: fields.number(3) as u32,
            gid: fields.number(4) as u32,
            size: fields.number(5) as i64,
            modified: fields.number(6) as i64,
            link: fields.text(7),
        }
    }

    fn message(&self) -> Message {
        Message::default()
            .text(1, &self.path)
            .number(2, u64::from(self.mode))
            .number(3, u64::from(self.uid))
            .number(4, u64::from(self.gid))
            .number(5, self.size as u64)
            .number(6, self.modified as u64)
            .text(7, &self.link)
    }

    /// Whether it has contents.
    pub fn is_file(&self) -> bool {
        self.mode & mode::KIND == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_survive_the_way_and_unknown_ones_are_none() {
        let stat =
            Stat { path: "a/b".into(), mode: mode::DIRECTORY | 0o755, size: -1, modified: -5, ..Stat::default() };
        for packet in [
            Packet::Stat(stat),
            Packet::Stat(Stat::default()),
            Packet::LastStat,
            Packet::Request(7),
            Packet::Data(0, b"x".to_vec()),
            Packet::Data(3, Vec::new()),
            Packet::Finished,
            Packet::Error("no".into()),
        ] {
            assert_eq!(Packet::read(&packet.message().0), Some(packet));
        }
        assert_eq!(Packet::read(&Message::default().number(1, 9).0), None);
    }

    #[test]
    fn special_bits_of_a_mode_are_gos_outside_and_the_kernels_inside() {
        assert_eq!(mode::permissions(mode::SETUID | mode::STICKY | 0o755), 0o5755);
        assert_eq!(mode::of_permissions(0o2750), mode::SETGID | 0o750);
    }
}
