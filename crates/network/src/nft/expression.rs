//! Rule expressions (linux/netfilter/nf_tables.h). Names and numbers are the kernel's.

use crate::netlink::AttributeWriter;

/// A 32-bit register, 0 to 15. Wider values take the following ones too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register(pub u8);

impl Register {
    fn number(self) -> u32 {
        libc::NFT_REG32_00 as u32 + u32::from(self.0)
    }
}

/// Where a packet goes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Drop,
    Jump(String),
    Goto(String),
    Return,
}

/// One step of a rule. A comparison or lookup that fails ends the rule; the next rule goes on.
#[derive(Clone, Debug)]
pub(crate) enum Expression {
    /// Loads bytes of the IP header.
    Network { offset: u32, length: u32, to: Register },
    /// Loads bytes of the transport header.
    Transport { offset: u32, length: u32, to: Register },
    /// Loads packet metadata (`NFT_META_*`).
    Meta { key: i32, to: Register },
    /// Sets the packet's mark.
    SetMark { from: Register },
    /// Loads connection state (`NFT_CT_*`).
    Ct { key: i32, to: Register },
    /// `to = (from & mask) ^ xor`, bytes in network order of the value.
    Bitwise { from: Register, to: Register, mask: Vec<u8>, xor: Vec<u8> },
    /// Goes on if the register equals the bytes.
    Equal { register: Register, value: Vec<u8> },
    /// Goes on if the register differs from the bytes.
    NotEqual { register: Register, value: Vec<u8> },
    /// Loads a constant.
    Load { to: Register, value: Vec<u8> },
    /// Ends with a verdict.
    End(Verdict),
    /// Goes on if the key is in the set.
    InSet { set: &'static str, key: Register },
    /// Loads the key's value from the map; goes on if there is one.
    Map { map: &'static str, key: Register, to: Register },
    /// Takes the key's verdict from the map, if there is one.
    VerdictMap { map: &'static str, key: Register },
    /// Adds an element with a timeout, or refreshes the timeout of the one that is there.
    Remember { map: &'static str, key: Register, value: Register, seconds: u64 },
    /// Removes an element.
    Forget { map: &'static str, key: Register, value: Register },
    /// A random number below `modulus`, in host byte order.
    Random { to: Register, modulus: u32 },
    /// The kind of the destination address (`RTN_*`), in host byte order.
    DestinationType { to: Register },
    /// Translates the destination address (and port) and accepts.
    Dnat { address: Register, port: Register },
    /// Translates the source to that in the register and accepts.
    Snat { address: Register },
    /// Translates the source to the outgoing interface's address and accepts.
    Masquerade,
    /// Answers with a TCP reset and drops.
    Reset,
    /// Answers with ICMP port unreachable and drops.
    PortUnreachable,
}

/// `NFTA_LIST_ELEM`.
const LIST_ELEMENT: u16 = 1;

/// Writes the expressions as list elements.
pub(crate) fn write_all(list: &mut AttributeWriter<'_>, expressions: &[Expression]) {
    for expression in expressions {
        list.nest(LIST_ELEMENT, |element| write(element, expression));
    }
}

fn write(element: &mut AttributeWriter<'_>, expression: &Expression) {
    use Expression as E;
    let mut named = |name: &str, fill: &dyn Fn(&mut AttributeWriter<'_>)| {
        // NFTA_EXPR_NAME, NFTA_EXPR_DATA
        element.string(1, name).nest(2, |data| fill(data));
    };
    match expression {
        E::Network { offset, length, to } => {
            named("payload", &|data| payload(data, libc::NFT_PAYLOAD_NETWORK_HEADER, *offset, *length, *to));
        }
        E::Transport { offset, length, to } => {
            named("payload", &|data| payload(data, libc::NFT_PAYLOAD_TRANSPORT_HEADER, *offset, *length, *to));
        }
        // NFTA_META_DREG, NFTA_META_KEY, NFTA_META_SREG
        E::Meta { key, to } => named("meta", &|data| {
            data.be32(1, to.number()).be32(2, *key as u32);
        }),
        E::SetMark { from } => named("meta", &|data| {
            data.be32(2, libc::NFT_META_MARK as u32).be32(3, from.number());
        }),
        // NFTA_CT_DREG, NFTA_CT_KEY
        E::Ct { key, to } => named("ct", &|data| {
            data.be32(1, to.number()).be32(2, *key as u32);
        }),
        // NFTA_BITWISE_SREG, _DREG, _LEN, _MASK, _XOR
        E::Bitwise { from, to, mask, xor } => named("bitwise", &|data| {
            data.be32(1, from.number()).be32(2, to.number()).be32(3, mask.len() as u32);
            data.nest(4, |inner| value(inner, mask)).nest(5, |inner| value(inner, xor));
        }),
        E::Equal { register, value } => named("cmp", &|data| compare(data, *register, libc::NFT_CMP_EQ, value)),
        E::NotEqual { register, value } => named("cmp", &|data| compare(data, *register, libc::NFT_CMP_NEQ, value)),
        // NFTA_IMMEDIATE_DREG, NFTA_IMMEDIATE_DATA
        E::Load { to, value: bytes } => named("immediate", &|data| {
            data.be32(1, to.number()).nest(2, |inner| value(inner, bytes));
        }),
        E::End(end) => named("immediate", &|data| {
            data.be32(1, libc::NFT_REG_VERDICT as u32).nest(2, |inner| verdict(inner, end));
        }),
        // NFTA_LOOKUP_SET, _SREG, _DREG
        E::InSet { set, key } => named("lookup", &|data| {
            data.string(1, set).be32(2, key.number());
        }),
        E::Map { map, key, to } => named("lookup", &|data| {
            data.string(1, map).be32(2, key.number()).be32(3, to.number());
        }),
        E::VerdictMap { map, key } => named("lookup", &|data| {
            data.string(1, map).be32(2, key.number()).be32(3, libc::NFT_REG_VERDICT as u32);
        }),
        // NFTA_DYNSET_SET_NAME, _OP, _SREG_KEY, _SREG_DATA, _TIMEOUT (milliseconds)
        E::Remember { map, key, value, seconds } => named("dynset", &|data| {
            data.string(1, map).be32(3, libc::NFT_DYNSET_OP_UPDATE as u32);
            data.be32(4, key.number()).be32(5, value.number()).be64(6, seconds * 1000);
        }),
        E::Forget { map, key, value } => named("dynset", &|data| {
            data.string(1, map).be32(3, DYNSET_DELETE).be32(4, key.number()).be32(5, value.number());
        }),
        // NFTA_NG_DREG, _MODULUS, _TYPE
        E::Random { to, modulus } => named("numgen", &|data| {
            data.be32(1, to.number()).be32(2, *modulus).be32(3, libc::NFT_NG_RANDOM as u32);
        }),
        // NFTA_FIB_DREG, _RESULT (NFT_FIB_RESULT_ADDRTYPE), _FLAGS (NFTA_FIB_F_DADDR)
        E::DestinationType { to } => named("fib", &|data| {
            data.be32(1, to.number()).be32(2, 3).be32(3, 2);
        }),
        // NFTA_NAT_TYPE, _FAMILY, _REG_ADDR_MIN, _REG_PROTO_MIN
        E::Dnat { address, port } => named("nat", &|data| {
            data.be32(1, libc::NFT_NAT_DNAT as u32).be32(2, libc::NFPROTO_IPV4 as u32);
            data.be32(3, address.number()).be32(5, port.number());
        }),
        E::Snat { address } => named("nat", &|data| {
            data.be32(1, libc::NFT_NAT_SNAT as u32).be32(2, libc::NFPROTO_IPV4 as u32).be32(3, address.number());
        }),
        E::Masquerade => named("masq", &|_| {}),
        // NFTA_REJECT_TYPE, _ICMP_CODE
        E::Reset => named("reject", &|data| {
            data.be32(1, libc::NFT_REJECT_TCP_RST as u32);
        }),
        E::PortUnreachable => named("reject", &|data| {
            data.be32(1, libc::NFT_REJECT_ICMP_UNREACH as u32).bytes(2, &[ICMP_PORT_UNREACHABLE]);
        }),
    }
}

/// `NFT_DYNSET_OP_DELETE` (Linux 5.6).
const DYNSET_DELETE: u32 = 2;
/// RFC 792: code 3 of a destination unreachable message.
const ICMP_PORT_UNREACHABLE: u8 = 3;

fn payload(data: &mut AttributeWriter<'_>, base: i32, offset: u32, length: u32, to: Register) {
    // NFTA_PAYLOAD_DREG, _BASE, _OFFSET, _LEN
    data.be32(1, to.number()).be32(2, base as u32).be32(3, offset).be32(4, length);
}

fn compare(data: &mut AttributeWriter<'_>, register: Register, operator: i32, bytes: &[u8]) {
    // NFTA_CMP_SREG, _OP, _DATA
    data.be32(1, register.number()).be32(2, operator as u32).nest(3, |inner| value(inner, bytes));
}

/// `NFTA_DATA_VALUE`.
pub(crate) fn value(data: &mut AttributeWriter<'_>, bytes: &[u8]) {
    data.bytes(1, bytes);
}

/// `NFTA_DATA_VERDICT` with `NFTA_VERDICT_CODE` and `NFTA_VERDICT_CHAIN`.
pub(crate) fn verdict(data: &mut AttributeWriter<'_>, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Drop => (libc::NF_DROP, None),
        Verdict::Jump(chain) => (libc::NFT_JUMP, Some(chain)),
        Verdict::Goto(chain) => (libc::NFT_GOTO, Some(chain)),
        Verdict::Return => (libc::NFT_RETURN, None),
    };
    data.nest(2, |inner| {
        inner.be32(1, code as u32);
        if let Some(chain) = chain {
            inner.string(2, chain);
        }
    });
}
