//! Committing transactions and reading back.

use std::io;

use super::Batch;
use super::batch::{close, push_header};
use crate::netlink::{AttributeWriter, Family, NetlinkSocket, attributes, next_sequence};

/// Why a transaction did not take effect.
#[derive(Debug, thiserror::Error)]
#[error("message {index} of the transaction: {source}")]
pub(crate) struct TransactionError {
    /// Which message of the batch was refused, counted from 1 (0: the batch as a whole).
    pub index: u32,
    /// The kernel's reason.
    pub source: io::Error,
}

/// A connection to nftables in the namespace it was opened in.
pub(crate) struct Session {
    socket: NetlinkSocket,
    /// Of the tables that are asked for.
    family: i32,
}

impl Session {
    /// For tables of family `ip`.
    pub(crate) fn open() -> io::Result<Session> {
        Self::of_family(libc::NFPROTO_IPV4)
    }

    /// For tables of family `ip` or `ip6`.
    pub(crate) fn of_family(family: i32) -> io::Result<Session> {
        Ok(Session { socket: NetlinkSocket::open(Family::Netfilter)?, family })
    }

    /// Commits a transaction. On an error nothing of it took effect.
    pub(crate) fn commit(&mut self, batch: Batch) -> Result<(), TransactionError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (bytes, first, last) = batch.finish();
        let whole = |source| TransactionError { index: 0, source };
        self.socket.send(&bytes).map_err(whole)?;
        match self.socket.acknowledged(first, last).map_err(whole)? {
            Ok(()) => Ok(()),
            Err((sequence, source)) => Err(TransactionError { index: sequence.wrapping_sub(first), source }),
        }
    }

    /// Whether the table has this chain.
    pub(crate) fn has_chain(&mut self, table: &str, chain: &str) -> io::Result<bool> {
        let mut found = false;
        let request = request(libc::NFT_MSG_GETCHAIN, 0, self.family, |attributes| {
            attributes.string(1, table).string(3, chain);
        });
        absent_is_false(self.socket.dump(&request, |_, _| found = true))?;
        Ok(found)
    }

    /// Whether the table exists.
    pub(crate) fn has_table(&mut self, table: &str) -> io::Result<bool> {
        let mut found = false;
        let request = request(libc::NFT_MSG_GETTABLE, 0, self.family, |attributes| {
            attributes.string(1, table);
        });
        absent_is_false(self.socket.dump(&request, |_, _| found = true))?;
        Ok(found)
    }

    /// All elements of a set: key and value (empty for verdicts and plain sets).
    pub(crate) fn elements(&mut self, table: &str, set: &str) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut all = Vec::new();
        let request = request(libc::NFT_MSG_GETSETELEM, libc::NLM_F_DUMP, self.family, |attributes| {
            attributes.string(1, table).string(2, set);
        });
        self.socket.dump(&request, |_, payload| {
            let lists = attributes(payload.get(4..).unwrap_or_default()).filter(|(kind, _)| *kind == 3);
            for (_, element) in lists.flat_map(|(_, list)| attributes(list)) {
                let part = |wanted: u16| {
                    let nest = attributes(element).find(|(kind, _)| *kind == wanted)?.1;
                    attributes(nest).find(|(kind, _)| *kind == 1).map(|(_, value)| value.to_vec())
                };
                if let Some(key) = part(1) {
                    all.push((key, part(2).unwrap_or_default()));
                }
            }
        })?;
        Ok(all)
    }

    /// Tables of other owners whose forward chain drops by default: (family, table, chain).
    pub(crate) fn dropping_forward_chains(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        let request = request(libc::NFT_MSG_GETCHAIN, libc::NLM_F_DUMP, libc::AF_UNSPEC, |_| {});
        self.socket.dump(&request, |_, payload| {
            let get = |wanted: u16| attributes(payload.get(4..)?).find(|(kind, _)| *kind == wanted).map(|(_, v)| v);
            let number = |bytes: Option<&[u8]>| bytes?.try_into().ok().map(u32::from_be_bytes);
            let text = |bytes: Option<&[u8]>| {
                String::from_utf8_lossy(bytes.unwrap_or_default()).trim_end_matches('\0').to_owned()
            };
            let hook = get(4).and_then(|nest| number(attributes(nest).find(|(kind, _)| *kind == 1).map(|(_, v)| v)));
            let family = payload.first().copied().map_or(0, i32::from);
            let ours = family == libc::NFPROTO_IPV4 || family == libc::NFPROTO_INET;
            if ours && hook == Some(libc::NF_INET_FORWARD as u32) && number(get(5)) == Some(libc::NF_DROP as u32) {
                found.push((text(get(1)), text(get(3))));
            }
        })?;
        Ok(found)
    }
}

fn request(kind: i32, flags: i32, family: i32, fill: impl FnOnce(&mut AttributeWriter<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let kind = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8 | kind as u16;
    let flags = (libc::NLM_F_REQUEST | flags) as u16;
    push_header(&mut bytes, kind, flags, next_sequence(), family as u8, 0);
    fill(&mut AttributeWriter::new(&mut bytes));
    close(&mut bytes, 0);
    bytes
}

fn absent_is_false(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}
