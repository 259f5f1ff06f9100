//! One nftables transaction, built as bytes.

use super::expression::{self, Expression, Verdict};
use crate::netlink::{AttributeWriter, HEADER, next_sequence};

/// A transaction on one table: all of it takes effect at once, or nothing.
pub(crate) struct Batch {
    table: String,
    /// `NFPROTO_*`.
    family: i32,
    bytes: Vec<u8>,
    first: u32,
    last: u32,
    last_at: usize,
    messages: usize,
}

/// Where and how a base chain hooks into the packet path.
pub(crate) struct ChainHook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// `NF_INET_*`.
    pub hook: i32,
    /// Lower comes first.
    pub priority: i32,
}

/// The shape of a set or map. Lengths are in bytes.
pub(crate) struct SetSpec {
    pub name: &'static str,
    pub key_length: u32,
    pub data: ElementKind,
    /// Elements are added by rules and expire: the most there can be.
    pub dynamic: Option<u32>,
}

/// What a set's elements carry beside the key.
pub(crate) enum ElementKind {
    Nothing,
    Value(u32),
    Verdict,
}

/// What one element carries beside its key.
pub(crate) enum ElementData<'a> {
    Nothing,
    Value(&'a [u8]),
    Verdict(Verdict),
}

impl Batch {
    /// On a table of family `ip`.
    pub(crate) fn new(table: &str) -> Batch {
        Self::of_family(libc::NFPROTO_IPV4, table)
    }

    /// On a table of family `ip` or `ip6`.
    pub(crate) fn of_family(family: i32, table: &str) -> Batch {
        let mut batch =
            Batch { table: table.to_owned(), family, bytes: Vec::new(), first: 0, last: 0, last_at: 0, messages: 0 };
        batch.frame(libc::NFNL_MSG_BATCH_BEGIN as u16, 0, 0, libc::NFNL_SUBSYS_NFTABLES as u16, |_, _| {});
        batch.first = batch.last;
        batch.messages = 0;
        batch
    }

    /// Whether nothing has been asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// The finished bytes, and the first and the last sequence number that will be answered.
    pub(crate) fn finish(mut self) -> (Vec<u8>, u32, u32) {
        // The answer to the last change comes after the commit; kernels before 6.10 don't answer the batch's end.
        let flags = self.last_at + 6;
        let with_ack = libc::NLM_F_REQUEST as u16
            | libc::NLM_F_ACK as u16
            | u16::from_ne_bytes([self.bytes[flags], self.bytes[flags + 1]]);
        self.bytes[flags..flags + 2].copy_from_slice(&with_ack.to_ne_bytes());
        let last = self.last;
        self.frame(libc::NFNL_MSG_BATCH_END as u16, 0, 0, libc::NFNL_SUBSYS_NFTABLES as u16, |_, _| {});
        (self.bytes, self.first, last)
    }

    pub(crate) fn add_table(&mut self) {
        self.message(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, |attributes, table| {
            attributes.string(1, table).be32(2, 0);
        });
    }

    pub(crate) fn delete_table(&mut self) {
        self.message(libc::NFT_MSG_DELTABLE, 0, |attributes, table| {
            attributes.string(1, table);
        });
    }

    pub(crate) fn add_chain(&mut self, name: &str, hook: Option<&ChainHook>) {
        // NFTA_CHAIN_TABLE, _NAME, _HOOK {_HOOKNUM, _PRIORITY}, _POLICY, _TYPE
        self.message(libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE, |attributes, table| {
            attributes.string(1, table).string(3, name);
            if let Some(hook) = hook {
                attributes.nest(4, |inner| {
                    inner.be32(1, hook.hook as u32).be32(2, hook.priority as u32);
                });
                attributes.be32(5, libc::NF_ACCEPT as u32).string(7, hook.kind);
            }
        });
    }

    /// Deletes a chain with its rules.
    pub(crate) fn delete_chain(&mut self, name: &str) {
        self.message(libc::NFT_MSG_DELRULE, 0, |attributes, table| {
            attributes.string(1, table).string(2, name);
        });
        self.message(libc::NFT_MSG_DELCHAIN, 0, |attributes, table| {
            attributes.string(1, table).string(3, name);
        });
    }

    /// Appends a rule to a chain.
    pub(crate) fn add_rule(&mut self, chain: &str, expressions: &[Expression]) {
        // NFTA_RULE_TABLE, _CHAIN, _EXPRESSIONS
        self.message(libc::NFT_MSG_NEWRULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND, |attributes, table| {
            attributes.string(1, table).string(2, chain);
            attributes.nest(4, |list| expression::write_all(list, expressions));
        });
    }

    pub(crate) fn add_set(&mut self, spec: &SetSpec, id: u32) {
        let mut flags = 0;
        if !matches!(spec.data, ElementKind::Nothing) {
            flags |= libc::NFT_SET_MAP;
        }
        if spec.dynamic.is_some() {
            flags |= libc::NFT_SET_TIMEOUT | libc::NFT_SET_EVAL;
        }
        // NFTA_SET_TABLE, _NAME, _FLAGS, _KEY_TYPE, _KEY_LEN, _DATA_TYPE, _DATA_LEN, _DESC {_SIZE}, _ID. Key and value
        // types are for the reader's eyes; 0 says "raw".
        self.message(libc::NFT_MSG_NEWSET, libc::NLM_F_CREATE, |attributes, table| {
            attributes.string(1, table).string(2, spec.name).be32(3, flags as u32);
            attributes.be32(4, 0).be32(5, spec.key_length);
            match spec.data {
                ElementKind::Nothing => {}
                ElementKind::Value(length) => {
                    attributes.be32(6, 0).be32(7, length);
                }
                ElementKind::Verdict => {
                    attributes.be32(6, libc::NFT_DATA_VERDICT).be32(7, VERDICT_LENGTH);
                }
            }
            if let Some(size) = spec.dynamic {
                attributes.nest(9, |inner| {
                    inner.be32(1, size);
                });
            }
            attributes.be32(10, id);
        });
    }

    pub(crate) fn add_element(&mut self, set: &str, key: &[u8], data: ElementData<'_>) {
        self.element(libc::NFT_MSG_NEWSETELEM, libc::NLM_F_CREATE, set, key, data);
    }

    pub(crate) fn delete_element(&mut self, set: &str, key: &[u8]) {
        self.element(libc::NFT_MSG_DELSETELEM, 0, set, key, ElementData::Nothing);
    }

    fn element(&mut self, kind: i32, flags: i32, set: &str, key: &[u8], data: ElementData<'_>) {
        // NFTA_SET_ELEM_LIST_TABLE, _SET, _ELEMENTS { NFTA_LIST_ELEM { NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_DATA } }
        self.message(kind, flags, |attributes, table| {
            attributes.string(1, table).string(2, set).nest(3, |list| {
                list.nest(1, |element| {
                    element.nest(1, |inner| expression::value(inner, key));
                    match &data {
                        ElementData::Nothing => {}
                        ElementData::Value(bytes) => {
                            element.nest(2, |inner| expression::value(inner, bytes));
                        }
                        ElementData::Verdict(verdict) => {
                            element.nest(2, |inner| expression::verdict(inner, verdict));
                        }
                    }
                });
            });
        });
    }

    fn message(&mut self, kind: i32, flags: i32, fill: impl FnOnce(&mut AttributeWriter<'_>, &str)) {
        let kind = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8 | kind as u16;
        self.frame(kind, flags as u16, self.family as u8, 0, fill);
    }

    fn frame(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
        fill: impl FnOnce(&mut AttributeWriter<'_>, &str),
    ) {
        let start = self.bytes.len();
        let sequence = next_sequence();
        push_header(&mut self.bytes, kind, libc::NLM_F_REQUEST as u16 | flags, sequence, family, resource);
        fill(&mut AttributeWriter::new(&mut self.bytes), &self.table);
        close(&mut self.bytes, start);
        self.last = sequence;
        self.last_at = start;
        self.messages += 1;
    }
}

/// `sizeof(struct nft_verdict)`; the kernel only checks that it is no larger than it can store.
const VERDICT_LENGTH: u32 = 16;

/// `struct nlmsghdr` with length 0, and `struct nfgenmsg`.
pub(crate) fn push_header(bytes: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, family: u8, resource: u16) {
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(&[family, libc::NFNETLINK_V0 as u8]);
    bytes.extend_from_slice(&resource.to_be_bytes());
}

/// Fills in the length of the message that began at `start`.
pub(crate) fn close(bytes: &mut [u8], start: usize) {
    let length = (bytes.len() - start) as u32;
    debug_assert!(length as usize >= HEADER);
    bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}
