//! Which commands there are, where their keys stand, and who answers them.

use super::Span;

/// What is done with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Goes to the shard of the key at this argument, as it is.
    Key(usize, Access),
    /// Has keys in every argument from the first on, and is split among their shards.
    Keys(Join, Access),
    /// Has keys and values in turn, and is split.
    Pairs,
    /// Has the number of its keys at the first index and the keys after it: goes to the shard of the first key.
    Counted(usize, Access),
    /// Has keys at arguments 1 and 2 that must belong to one shard.
    Two,
    /// Has keys and values in turn, and goes as it is to the shard that all the keys must belong to.
    PairsTogether,
    /// Names its keys after the word STREAMS.
    Streams(Access),
    /// Is about scripts, which every shard keeps: some of its subcommands go to all of them.
    Script,
    /// Concerns no key: whichever shard is asked answers.
    Any,
    /// Is answered here.
    Local(Local),
    /// Needs one server to itself, or all of them at once: there is no such server here.
    Refused,
}

/// Whether a command changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It does not; replicas may answer.
    Read,
    /// It does.
    Write,
}

/// How the answers of several shards become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// Elements in the order of the keys.
    Elements,
    /// The sum of numbers.
    Sum,
    /// OK, when all say so.
    Ok,
    /// What all say.
    Same,
    /// Of numbers in lists of the same length, the least in each place.
    Least,
}

/// A command that is answered without any server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// `PING [message]`
    Ping,
    /// `ECHO message`
    Echo,
    /// `QUIT`
    Quit,
    /// `AUTH [user] password`
    Auth,
    /// `SELECT db`
    Select,
    /// `HELLO [2|3 [AUTH user password] [SETNAME name]]`
    Hello,
    /// `COMMAND`: an empty list.
    Command,
    /// `CLIENT SETNAME|SETINFO|GETNAME|ID|NO-EVICT|NO-TOUCH`
    Client,
}

/// The longest name of a command that there is.
const LONGEST_NAME: usize = 20;

/// What is done with the command of this name.
#[must_use]
pub fn route(name: &[u8]) -> Route {
    use Access::{Read, Write};
    use Join::{Elements, Sum};
    use Route::{Any, Counted, Key, Keys, Local, Pairs, PairsTogether, Refused, Script, Streams, Two};
    let mut upper = [0u8; LONGEST_NAME];
    let Some(upper) = upper.get_mut(..name.len()) else { return Refused };
    upper.copy_from_slice(name);
    upper.make_ascii_uppercase();
    match &*upper {
        b"GET" | b"TTL" | b"PTTL" | b"TYPE" | b"DUMP" | b"STRLEN" | b"GETRANGE" | b"SUBSTR" | b"GETBIT"
        | b"BITCOUNT" | b"BITPOS" | b"BITFIELD_RO" | b"EXPIRETIME" | b"PEXPIRETIME" | b"SORT_RO" => Key(1, Read),
        b"HGET" | b"HGETALL" | b"HKEYS" | b"HLEN" | b"HVALS" | b"HEXISTS" | b"HMGET" | b"HSTRLEN" | b"HSCAN"
        | b"HRANDFIELD" | b"HTTL" | b"HPTTL" | b"HEXPIRETIME" | b"HPEXPIRETIME" => Key(1, Read),
        b"LINDEX" | b"LLEN" | b"LRANGE" | b"LPOS" => Key(1, Read),
        b"SCARD" | b"SISMEMBER" | b"SMISMEMBER" | b"SMEMBERS" | b"SRANDMEMBER" | b"SSCAN" | b"SDIFF" | b"SINTER"
        | b"SUNION" => Key(1, Read),
        b"ZCARD" | b"ZCOUNT" | b"ZLEXCOUNT" | b"ZMSCORE" | b"ZRANDMEMBER" | b"ZRANGE" | b"ZRANGEBYLEX"
        | b"ZRANGEBYSCORE" | b"ZRANK" | b"ZREVRANGE" | b"ZREVRANGEBYLEX" | b"ZREVRANGEBYSCORE" | b"ZREVRANK"
        | b"ZSCAN" | b"ZSCORE" => Key(1, Read),
        b"GEODIST" | b"GEOPOS" | b"GEOHASH" | b"GEORADIUS_RO" | b"GEORADIUSBYMEMBER_RO" | b"GEOSEARCH" => Key(1, Read),
        b"XLEN" | b"XRANGE" | b"XREVRANGE" | b"XPENDING" | b"PFCOUNT" | b"LCS" => Key(1, Read),

        b"SET" | b"INCR" | b"DECR" | b"INCRBY" | b"DECRBY" | b"INCRBYFLOAT" | b"APPEND" | b"GETSET" | b"GETDEL"
        | b"GETEX" | b"SETNX" | b"SETEX" | b"PSETEX" | b"SETRANGE" | b"SETBIT" | b"BITFIELD" | b"RESTORE" => {
            Key(1, Write)
        }
        b"EXPIRE" | b"EXPIREAT" | b"PEXPIRE" | b"PEXPIREAT" | b"PERSIST" | b"SORT" | b"MOVE" => Key(1, Write),
        b"HSET" | b"HMSET" | b"HSETNX" | b"HDEL" | b"HINCRBY" | b"HINCRBYFLOAT" | b"HGETDEL" | b"HGETEX"
        | b"HSETEX" | b"HEXPIRE" | b"HPEXPIRE" | b"HEXPIREAT" | b"HPEXPIREAT" | b"HPERSIST" => Key(1, Write),
        b"LPUSH" | b"LPUSHX" | b"RPUSH" | b"RPUSHX" | b"LPOP" | b"RPOP" | b"LSET" | b"LREM" | b"LTRIM" | b"LINSERT" => {
            Key(1, Write)
        }
        b"SADD" | b"SREM" | b"SPOP" | b"SDIFFSTORE" | b"SINTERSTORE" | b"SUNIONSTORE" => Key(1, Write),
        b"ZADD" | b"ZINCRBY" | b"ZREM" | b"ZREMRANGEBYLEX" | b"ZREMRANGEBYRANK" | b"ZREMRANGEBYSCORE" | b"ZPOPMIN"
        | b"ZPOPMAX" | b"ZDIFFSTORE" | b"ZINTERSTORE" | b"ZUNIONSTORE" | b"ZRANGESTORE" => Key(1, Write),
        b"GEOADD" | b"GEORADIUS" | b"GEORADIUSBYMEMBER" | b"GEOSEARCHSTORE" | b"PFADD" | b"PFMERGE" => Key(1, Write),
        b"XADD" | b"XDEL" | b"XTRIM" | b"XACK" | b"XCLAIM" | b"XAUTOCLAIM" | b"XSETID" => Key(1, Write),
        b"RPOPLPUSH" | b"LMOVE" | b"SMOVE" | b"COPY" | b"RENAME" | b"RENAMENX" => Two,

        b"XGROUP" | b"BITOP" => Key(2, Write),
        b"OBJECT" | b"XINFO" | b"MEMORY" => Key(2, Read),
        b"MGET" => Keys(Elements, Read),
        b"EXISTS" => Keys(Sum, Read),
        b"TOUCH" => Keys(Sum, Write),
        b"DEL" | b"UNLINK" => Keys(Sum, Write),
        b"MSET" => Pairs,
        b"MSETNX" => PairsTogether,
        b"EVAL" | b"EVALSHA" | b"FCALL" => Counted(2, Write),
        b"EVAL_RO" | b"EVALSHA_RO" | b"FCALL_RO" => Counted(2, Read),
        b"ZUNION" | b"ZINTER" | b"ZDIFF" | b"ZINTERCARD" | b"SINTERCARD" => Counted(1, Read),
        b"LMPOP" | b"ZMPOP" => Counted(1, Write),
        b"XREAD" => Streams(Read),
        b"XREADGROUP" => Streams(Write),
        b"SCRIPT" => Script,
        b"LOLWUT" | b"TIME" => Any,

        b"PING" => Local(self::Local::Ping),
        b"ECHO" => Local(self::Local::Echo),
        b"QUIT" => Local(self::Local::Quit),
        b"AUTH" => Local(self::Local::Auth),
        b"SELECT" => Local(self::Local::Select),
        b"HELLO" => Local(self::Local::Hello),
        b"COMMAND" => Local(self::Local::Command),
        b"CLIENT" => Local(self::Local::Client),
        _ => Refused,
    }
}

/// Where the key stands that decides on the shard, of a [`Route::Counted`] or [`Route::Streams`] request.
///
/// # Errors
/// Says what is missing, as an error reply without its `-ERR`.
pub fn first_key(route: Route, buffer: &[u8], arguments: &[Span]) -> Result<Span, &'static str> {
    match route {
        Route::Counted(at, _) => {
            let count =
                arguments.get(at).and_then(|span| std::str::from_utf8(span.of(buffer)).ok()?.parse::<usize>().ok());
            match count {
                None => Err("the number of keys is missing or no number"),
                Some(0) => Err("a request without keys has no shard here: name at least one key"),
                Some(_) => arguments.get(at + 1).copied().ok_or("the keys are missing"),
            }
        }
        Route::Streams(_) => {
            let word = |span: &Span, word: &[u8]| span.of(buffer).eq_ignore_ascii_case(word);
            let streams = arguments.iter().position(|span| word(span, b"STREAMS")).ok_or("STREAMS is missing")?;
            if arguments[..streams].iter().any(|span| word(span, b"BLOCK")) {
                return Err("BLOCK is not supported here: it would stop all who share the connection to the shard");
            }
            arguments.get(streams + 1).copied().ok_or("the keys are missing")
        }
        _ => Err("the key is missing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_whatever_their_case_and_unknown_ones_are_refused() {
        assert_eq!(route(b"get"), Route::Key(1, Access::Read));
        assert_eq!(route(b"SeT"), Route::Key(1, Access::Write));
        assert_eq!(route(b"mget"), Route::Keys(Join::Elements, Access::Read));
        for refused in ["SUBSCRIBE", "MULTI", "KEYS", "BLPOP", "FLUSHALL", "", "GETT", "A_NAME_THAT_IS_MUCH_TOO_LONG"] {
            assert_eq!(route(refused.as_bytes()), Route::Refused, "{refused}");
        }
    }

    #[test]
    fn scripts_and_streams_go_by_their_first_key() {
        let find = |text: &str| {
            let mut at = 0;
            let spans: Vec<Span> = text
                .split(' ')
                .map(|word| {
                    let span = Span { start: at, end: at + word.len() };
                    at += word.len() + 1;
                    span
                })
                .collect();
            first_key(route(spans[0].of(text.as_bytes())), text.as_bytes(), &spans)
                .map(|span| String::from_utf8_lossy(span.of(text.as_bytes())).into_owned())
        };
        assert_eq!(find("EVAL script 2 k1 k2 a").unwrap(), "k1");
        assert_eq!(find("ZUNION 2 k1 k2").unwrap(), "k1");
        assert_eq!(find("XREAD COUNT 2 STREAMS s1 s2 0 0").unwrap(), "s1");
        assert!(find("XREAD BLOCK 0 STREAMS s1 $").unwrap_err().contains("BLOCK"));
        assert!(find("EVAL script 0").is_err());
        assert!(find("EVAL script").is_err());
    }
}
