//! Parsers fed with mutations of a kept corpus, for a bounded time. FUZZ_SECONDS prolongs it.

use std::path::Path;
use std::time::{Duration, Instant};

use sharding::config::Config;
use sharding::protocol::{memcached, resp};

/// A small generator of numbers (xorshift64*), begun anew from a seed so that a failure can be repeated.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }
}

fn corpus(kind: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(kind);
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Cuts, repeats, swaps and overwrites.
fn mutate(chance: &mut Chance, corpus: &[Vec<u8>]) -> Vec<u8> {
    const TOKENS: [&[u8]; 14] = [
        b"\r\n",
        b"\n",
        b"*",
        b"$",
        b"-1",
        b"0",
        b"99999999999",
        b"18446744073709551615",
        b"\0",
        b" ",
        b"VALUE ",
        b"VA ",
        b"END\r\n",
        b": ",
    ];
    let mut bytes = corpus[chance.below(corpus.len())].clone();
    for _ in 0..=chance.below(6) {
        let at = chance.below(bytes.len() + 1);
        match chance.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, chance.below(256) as u8),
            2 if at < bytes.len() => bytes[at] = chance.below(256) as u8,
            3 => drop(bytes.splice(at..at, TOKENS[chance.below(TOKENS.len())].iter().copied())),
            4 => {
                let end = at + chance.below(bytes.len() - at + 1);
                let part = bytes[at..end].to_vec();
                let to = chance.below(bytes.len() + 1);
                drop(bytes.splice(to..to, part));
            }
            _ => {
                let other = &corpus[chance.below(corpus.len())];
                bytes.extend(&other[chance.below(other.len() + 1)..]);
            }
        }
        bytes.truncate(64 * 1024);
    }
    bytes
}

fn fuzz(kind: &str, mut check: impl FnMut(&[u8], usize)) {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let corpus = corpus(kind);
    for input in &corpus {
        (0..input.len()).for_each(|cut| check(input, cut));
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut chance = Chance(0x5eed_0fab_1e00_0001);
    while Instant::now() < end {
        for _ in 0..200 {
            let input = mutate(&mut chance, &corpus);
            let cut = chance.below(input.len() + 1);
            check(&input, cut);
        }
    }
}

#[test]
fn redis_requests_are_read_alike_whole_and_in_pieces() {
    let all = |input: &[u8], first: usize| {
        let mut parser = resp::RequestParser::default();
        let mut read = Vec::new();
        let mut at = 0;
        for known in [first, input.len()] {
            while at < known {
                match parser.parse(&input[at..known], resp::Limits::USUAL) {
                    Ok(Some(length)) => {
                        assert!(length > 0 && at + length <= known);
                        read.push(
                            parser.arguments.iter().map(|span| span.of(&input[at..]).to_vec()).collect::<Vec<_>>(),
                        );
                        parser.next();
                        at += length;
                    }
                    Ok(None) => break,
                    Err(error) => return (read, Some(error)),
                }
            }
        }
        (read, None)
    };
    fuzz("resp", |input, cut| {
        assert_eq!(all(input, cut), all(input, input.len()), "{:?}", String::from_utf8_lossy(input))
    });
}

#[test]
fn redis_replies_are_read_alike_whole_and_in_pieces() {
    let all = |input: &[u8], first: usize| {
        let mut scanner = resp::ReplyScanner::default();
        let (mut ends, mut at) = (Vec::new(), 0);
        for known in [first, input.len()] {
            while at < known {
                match scanner.scan(&input[at..known]) {
                    Ok(Some(length)) => {
                        at += length;
                        ends.push(at);
                        let _ = resp::elements(&input[at - length..at]);
                        let _ = resp::integer(&input[at - length..at]);
                    }
                    Ok(None) => break,
                    Err(error) => return (ends, Some(error)),
                }
            }
        }
        (ends, None)
    };
    fuzz("resp", |input, cut| {
        assert_eq!(all(input, cut), all(input, input.len()), "{:?}", String::from_utf8_lossy(input))
    });
}

#[test]
fn memcached_requests_are_read_alike_whole_and_in_pieces() {
    let all = |input: &[u8], first: usize| {
        let mut parser = memcached::RequestParser::default();
        let (mut read, mut at) = (Vec::new(), 0);
        for known in [first, input.len()] {
            while at < known {
                match parser.parse(&input[at..known]) {
                    Ok(Some((length, request))) => {
                        assert!(length > 0 && at + length <= known);
                        read.push((request, parser.keys.clone()));
                        at += length;
                    }
                    Ok(None) => break,
                    Err(error) => return (read, Some(error)),
                }
            }
        }
        (read, None)
    };
    fuzz("memcached", |input, cut| {
        // Data that ends wrongly is noticed once it is all there, or once what follows it is.
        assert_eq!(all(input, cut), all(input, input.len()), "{:?}", String::from_utf8_lossy(input));
    });
}

#[test]
fn memcached_replies_are_read_alike_whole_and_in_pieces() {
    for ends in [memcached::Ends::Itself, memcached::Ends::AtNoop] {
        let all = |input: &[u8], first: usize| {
            let mut scanner = memcached::ReplyScanner::default();
            let (mut found, mut at) = (Vec::new(), 0);
            for known in [first, input.len()] {
                while at < known {
                    match scanner.scan(&input[at..known], ends) {
                        Ok(Some(length)) => {
                            at += length;
                            found.push(at);
                            let _ = memcached::values(&input[at - length..at]);
                        }
                        Ok(None) => break,
                        Err(error) => return (found, Some(error)),
                    }
                }
            }
            (found, None)
        };
        fuzz("memcached", |input, cut| {
            assert_eq!(all(input, cut), all(input, input.len()), "{:?}", String::from_utf8_lossy(input));
        });
    }
}

#[test]
fn configurations_are_read_or_refused_and_what_is_read_can_be_written_and_read_again() {
    fuzz("yaml", |input, cut| {
        let Ok(text) = std::str::from_utf8(&input[..cut]) else { return };
        if let Ok(config) = Config::parse(text) {
            let written = config.to_yaml().expect("it can be written");
            assert_eq!(Config::parse(&written).expect("it can be read again"), config, "{text}");
        }
    });
}
