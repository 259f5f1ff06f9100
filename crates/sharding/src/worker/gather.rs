//! One answer from several shards'.

use crate::protocol::redis::Join;
use crate::protocol::{memcached, resp};

/// How the parts are put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Redis; the elements of `Join::Elements` stand, key by key, in this part at this place.
    Redis(Join, Vec<(u32, u32)>),
    /// The values of a memcached retrieval.
    Values,
    /// What all of memcached's servers say; what is not OK counts more.
    Agreed,
}

/// The parts of an answer as they come.
#[derive(Debug)]
pub struct Gather {
    kind: Kind,
    parts: Vec<Option<Box<[u8]>>>,
    missing: usize,
}

impl Gather {
    /// An answer in so many parts.
    pub fn new(kind: Kind, parts: usize) -> Gather {
        Gather { kind, parts: vec![None; parts], missing: parts }
    }

    /// Takes a part; true when it was the last one missing.
    pub fn add(&mut self, part: u32, reply: &[u8]) -> bool {
        if let Some(place @ None) = self.parts.get_mut(part as usize) {
            *place = Some(reply.into());
            self.missing -= 1;
        }
        self.missing == 0
    }

    /// How many bytes its parts are.
    pub fn held(&self) -> usize {
        self.parts.iter().flatten().map(|part| part.len()).sum()
    }

    /// The whole answer. If a part is an error, that is the answer.
    pub fn join(&self) -> Vec<u8> {
        let parts: Vec<&[u8]> = self.parts.iter().flatten().map(|part| &**part).collect();
        match &self.kind {
            Kind::Redis(join, order) => join_redis(*join, order, &parts),
            Kind::Values => join_values(&parts),
            Kind::Agreed => parts.iter().find(|part| **part != b"OK\r\n").unwrap_or(&b"OK\r\n".as_slice()).to_vec(),
        }
    }
}

fn join_redis(join: Join, order: &[(u32, u32)], parts: &[&[u8]]) -> Vec<u8> {
    if let Some(error) = parts.iter().find(|part| matches!(part.first(), Some(b'-' | b'!'))) {
        return error.to_vec();
    }
    let joined = match join {
        Join::Ok => parts.iter().all(|part| part.starts_with(b"+")).then(|| b"+OK\r\n".to_vec()),
        Join::Sum => parts
            .iter()
            .try_fold(0i64, |sum, part| sum.checked_add(resp::integer(part)?))
            .map(|sum| format!(":{sum}\r\n").into_bytes()),
        Join::Elements => join_elements(order, parts),
        Join::Same => parts.iter().all(|part| *part == parts[0]).then(|| parts[0].to_vec()),
        Join::Least => join_least(parts),
    };
    joined.unwrap_or_else(|| b"-ERR a shard's answer does not fit the others'\r\n".to_vec())
}

fn join_elements(order: &[(u32, u32)], parts: &[&[u8]]) -> Option<Vec<u8>> {
    let elements: Vec<_> = parts.iter().map(|part| resp::elements(part)).collect::<Option<_>>()?;
    let mut whole = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    resp::write_header(&mut whole, b'*', order.len());
    for &(part, element) in order {
        let span = elements.get(part as usize)?.get(element as usize)?;
        whole.extend_from_slice(span.of(parts[part as usize]));
    }
    Some(whole)
}

fn join_least(parts: &[&[u8]]) -> Option<Vec<u8>> {
    let numbers = |part: &&[u8]| {
        resp::elements(part)?.iter().map(|span| resp::integer(span.of(part))).collect::<Option<Vec<i64>>>()
    };
    let mut all = parts.iter().map(numbers);
    let mut least = all.next()??;
    for numbers in all {
        let numbers = numbers.filter(|numbers| numbers.len() == least.len())?;
        least.iter_mut().zip(numbers).for_each(|(least, number)| *least = number.min(*least));
    }
    let mut whole = Vec::new();
    resp::write_header(&mut whole, b'*', least.len());
    least.iter().for_each(|number| whole.extend_from_slice(format!(":{number}\r\n").as_bytes()));
    Some(whole)
}

fn join_values(parts: &[&[u8]]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        match memcached::values(part) {
            Some(values) => whole.extend_from_slice(values),
            None => return part.to_vec(),
        }
    }
    whole.extend_from_slice(b"END\r\n");
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(kind: Kind, parts: &[&str]) -> String {
        let mut gather = Gather::new(kind, parts.len());
        for (index, part) in parts.iter().enumerate().rev() {
            assert_eq!(gather.add(u32::try_from(index).unwrap(), part.as_bytes()), index == 0);
        }
        String::from_utf8(gather.join()).unwrap()
    }

    #[test]
    fn elements_come_in_the_order_of_the_keys() {
        let order = vec![(1, 0), (0, 0), (1, 1)];
        let parts = ["*1\r\n$1\r\nb\r\n", "*2\r\n$1\r\na\r\n$-1\r\n"];
        let whole = join(Kind::Redis(Join::Elements, order.clone()), &parts);
        assert_eq!(whole, "*3\r\n$1\r\na\r\n$1\r\nb\r\n$-1\r\n");
        assert!(join(Kind::Redis(Join::Elements, order), &["*0\r\n", "*0\r\n"]).starts_with("-ERR"));
    }

    #[test]
    fn numbers_add_up_and_errors_win() {
        assert_eq!(join(Kind::Redis(Join::Sum, vec![]), &[":2\r\n", ":40\r\n"]), ":42\r\n");
        assert_eq!(join(Kind::Redis(Join::Sum, vec![]), &[":2\r\n", "-LOADING x\r\n"]), "-LOADING x\r\n");
        assert_eq!(join(Kind::Redis(Join::Ok, vec![]), &["+OK\r\n", "+OK\r\n"]), "+OK\r\n");
        assert!(join(Kind::Redis(Join::Ok, vec![]), &["+OK\r\n", ":1\r\n"]).starts_with("-ERR"));
        let least = Kind::Redis(Join::Least, vec![]);
        assert_eq!(join(least.clone(), &["*2\r\n:1\r\n:0\r\n", "*2\r\n:1\r\n:1\r\n"]), "*2\r\n:1\r\n:0\r\n");
        assert!(join(least, &["*2\r\n:1\r\n:0\r\n", "*1\r\n:1\r\n"]).starts_with("-ERR"));
        assert_eq!(join(Kind::Redis(Join::Same, vec![]), &["$1\r\na\r\n", "$1\r\na\r\n"]), "$1\r\na\r\n");
        assert!(join(Kind::Redis(Join::Same, vec![]), &["$1\r\na\r\n", "$1\r\nb\r\n"]).starts_with("-ERR"));
    }

    #[test]
    fn all_must_have_agreed() {
        assert_eq!(join(Kind::Agreed, &["OK\r\n", "OK\r\n"]), "OK\r\n");
        assert_eq!(join(Kind::Agreed, &["OK\r\n", "SERVER_ERROR x\r\n"]), "SERVER_ERROR x\r\n");
    }

    #[test]
    fn values_follow_each_other() {
        let parts = ["VALUE a 0 1\r\nx\r\nEND\r\n", "END\r\n", "VALUE b 0 1\r\ny\r\nEND\r\n"];
        assert_eq!(join(Kind::Values, &parts), "VALUE a 0 1\r\nx\r\nVALUE b 0 1\r\ny\r\nEND\r\n");
        assert_eq!(join(Kind::Values, &["END\r\n", "SERVER_ERROR gone\r\n"]), "SERVER_ERROR gone\r\n");
    }
}
