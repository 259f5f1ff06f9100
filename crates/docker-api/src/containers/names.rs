//! Names for containers whose user gave none: an adjective and a surname of someone who did something notable.

use rand::seq::IndexedRandom;

const ADJECTIVES: [&str; 48] = [
    "admiring", "agile", "amber", "bold", "brave", "bright", "brisk", "busy", "calm", "clever", "crisp", "dazzling",
    "eager", "earnest", "elegant", "fair", "fearless", "festive", "focused", "friendly", "gallant", "gentle", "gifted",
    "happy", "hopeful", "humble", "inspired", "jolly", "keen", "kind", "lively", "loving", "merry", "modest", "nimble",
    "patient", "peaceful", "quiet", "quirky", "relaxed", "serene", "sharp", "stoic", "sunny", "tender", "upbeat",
    "vigilant", "zealous",
];

const SURNAMES: [&str; 56] = [
    "albattani",
    "allen",
    "archimedes",
    "austin",
    "babbage",
    "banach",
    "bardeen",
    "bartik",
    "bell",
    "blackwell",
    "bohr",
    "booth",
    "bose",
    "carson",
    "cerf",
    "chandrasekhar",
    "clarke",
    "curie",
    "darwin",
    "dijkstra",
    "easley",
    "einstein",
    "elion",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "franklin",
    "galileo",
    "gauss",
    "goodall",
    "hamilton",
    "hawking",
    "hopper",
    "hypatia",
    "jackson",
    "johnson",
    "kepler",
    "knuth",
    "lamarr",
    "lamport",
    "liskov",
    "lovelace",
    "mclean",
    "meitner",
    "newton",
    "noether",
    "pasteur",
    "perlman",
    "ritchie",
    "shannon",
    "tesla",
    "turing",
    "wozniak",
];

/// A name that `taken` does not know.
pub(super) fn generate(taken: impl Fn(&str) -> bool) -> String {
    let mut random = rand::rng();
    for round in 0u32.. {
        let adjective = ADJECTIVES.choose(&mut random).expect("the list is not empty");
        let surname = SURNAMES.choose(&mut random).expect("the list is not empty");
        let name = match round {
            0..8 => format!("{adjective}_{surname}"),
            _ => format!("{adjective}_{surname}{}", round - 8),
        };
        if !taken(&name) {
            return name;
        }
    }
    unreachable!("some number is free")
}
