//! What becomes of a Redis client's request.

use super::Core;
use super::client::{Asker, Client, Slot};
use super::gather::{Gather, Kind};
use super::server::For;
use crate::protocol::memcached::Ends;
use crate::protocol::redis::{Access, Join, Local, Route, first_key, route};
use crate::protocol::{Span, resp};

const ELSEWHERE: &str = "the keys belong to different shards; a hash tag keeps keys together";
/// The longest name that a client may give itself: it is kept as long as the client stays.
const LONGEST_NAME: usize = 1024;
pub(super) const NO_SHARD: &[u8] = b"-ERR no shard of this pool can be asked now\r\n";

impl Core {
    /// Answers a request or sends it on. `arguments` are parts of `request`.
    pub(super) fn redis(&mut self, id: usize, client: &mut Client, request: &[u8], arguments: &[Span], inline: bool) {
        let Some(name) = arguments.first().map(|span| span.of(request)) else { return };
        client.requests += 1;
        let route = route(name);
        let pool = &self.pools[client.pool].plan.pool;
        let open = matches!(route, Route::Local(Local::Auth | Local::Hello | Local::Quit));
        if pool.redis_auth.is_some() && !client.authenticated && !open {
            client.answer(b"-NOAUTH Authentication required.\r\n");
            return;
        }
        if let Route::Local(local) = route {
            self.answer(client, local, request, arguments);
            return;
        }
        if inline {
            let mut array = Vec::with_capacity(request.len() * 2);
            resp::write_header(&mut array, b'*', arguments.len());
            arguments.iter().for_each(|span| resp::write_bulk(&mut array, span.of(request)));
            let mut parser = resp::RequestParser::default();
            if let Ok(Some(_)) = parser.parse(&array, resp::Limits::USUAL) {
                self.route(id, client, route, &array, &parser.arguments);
            }
            return;
        }
        self.route(id, client, route, request, arguments);
    }

    fn route(&mut self, id: usize, client: &mut Client, route: Route, request: &[u8], arguments: &[Span]) {
        let wrong_number = |core: &mut Core, client: &mut Client| {
            let name = printable(arguments[0].of(request)).to_ascii_lowercase();
            core.refuse(client, &format!("wrong number of arguments for '{name}' command"));
        };
        match route {
            Route::Key(at, access) => match arguments.get(at) {
                Some(key) => self.forward(id, client, key.of(request), access, request),
                None => wrong_number(self, client),
            },
            Route::Keys(join, access) if arguments.len() > 1 => {
                self.split(id, client, request, arguments, 1, join, access);
            }
            Route::Pairs if arguments.len() > 2 && arguments.len() % 2 == 1 => {
                self.split(id, client, request, arguments, 2, Join::Ok, Access::Write);
            }
            Route::PairsTogether if arguments.len() > 2 && arguments.len() % 2 == 1 => {
                let first = self.shard_of(client.pool, arguments[1].of(request));
                let mut others = arguments[1..].iter().step_by(2);
                if others.all(|key| self.shard_of(client.pool, key.of(request)) == first) {
                    self.forward(id, client, arguments[1].of(request), Access::Write, request);
                } else {
                    self.refuse(client, ELSEWHERE);
                }
            }
            Route::Keys(..) | Route::Pairs | Route::PairsTogether => wrong_number(self, client),
            Route::Two => match arguments {
                [_, one, other, ..] => {
                    let shards = [one, other].map(|key| self.shard_of(client.pool, key.of(request)));
                    if shards[0] == shards[1] {
                        self.forward(id, client, one.of(request), Access::Write, request);
                    } else {
                        self.refuse(client, ELSEWHERE);
                    }
                }
                _ => wrong_number(self, client),
            },
            Route::Counted(_, access) | Route::Streams(access) => match first_key(route, request, arguments) {
                Ok(key) => self.forward(id, client, key.of(request), access, request),
                Err(reason) => self.refuse(client, reason),
            },
            Route::Script => {
                let word = arguments.get(1).map(|span| span.of(request).to_ascii_uppercase());
                match word.as_deref() {
                    None => wrong_number(self, client),
                    Some(b"LOAD") => self.everywhere(id, client, request, Join::Same),
                    Some(b"EXISTS") => self.everywhere(id, client, request, Join::Least),
                    Some(b"FLUSH") => self.everywhere(id, client, request, Join::Ok),
                    Some(word) => {
                        let word = printable(word);
                        self.refuse(client, &format!("SCRIPT {word} is not supported by the sharding proxy"));
                    }
                }
            }
            Route::Any => self.forward(id, client, b"", Access::Read, request),
            Route::Local(_) | Route::Refused => {
                let name = printable(arguments[0].of(request));
                self.refuse(client, &format!("command '{name}' is not supported by the sharding proxy"));
            }
        }
    }

    fn refuse(&mut self, client: &mut Client, reason: &str) {
        self.pools[client.pool].stats.refused.add(1);
        client.answer(format!("-ERR {reason}\r\n").as_bytes());
    }

    /// Sends a request as it is to the shard of its key.
    fn forward(&mut self, id: usize, client: &mut Client, key: &[u8], access: Access, request: &[u8]) {
        let Some(shard) = self.shard_of(client.pool, key) else {
            client.answer(NO_SHARD);
            return;
        };
        self.forward_to(id, client, shard, access, &[request], Ends::Itself);
    }

    /// Sends a request to one shard, whose answer is the client's.
    pub(super) fn forward_to(
        &mut self,
        id: usize,
        client: &mut Client,
        shard: usize,
        access: Access,
        parts: &[&[u8]],
        ends: Ends,
    ) {
        let sequence = client.ask(Slot::Waiting);
        let to = For::Client(Asker { client: id, generation: client.generation, sequence, part: 0 });
        self.submit(id, client, shard, access, to, ends, parts);
    }

    /// Sends a request as it is to all shards but those that are ejected.
    fn everywhere(&mut self, id: usize, client: &mut Client, request: &[u8], join: Join) {
        let shards = self.pools[client.pool].live_shards(self.clock);
        if let [] | [_] = shards[..] {
            match shards.first() {
                Some(&shard) => self.forward_to(id, client, shard, Access::Write, &[request], Ends::Itself),
                None => client.answer(NO_SHARD),
            }
            return;
        }
        let gather = Gather::new(Kind::Redis(join, Vec::new()), shards.len());
        let sequence = client.ask(Slot::Gather(Box::new(gather)));
        for (part, shard) in (0u32..).zip(shards) {
            let to = For::Client(Asker { client: id, generation: client.generation, sequence, part });
            self.submit(id, client, shard, Access::Write, to, Ends::Itself, &[request]);
        }
    }

    /// Sends each shard its part of a request with many keys.
    #[expect(clippy::too_many_arguments, reason = "a request in its parts")]
    fn split(
        &mut self,
        id: usize,
        client: &mut Client,
        request: &[u8],
        arguments: &[Span],
        step: usize,
        join: Join,
        access: Access,
    ) {
        // Shard, and the indices of its keys among the arguments.
        let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut order = Vec::with_capacity(if join == Join::Elements { arguments.len() } else { 0 });
        for at in (1..arguments.len()).step_by(step) {
            let Some(shard) = self.shard_of(client.pool, arguments[at].of(request)) else {
                client.answer(NO_SHARD);
                return;
            };
            let part = groups.iter().position(|(other, _)| *other == shard).unwrap_or_else(|| {
                groups.push((shard, Vec::new()));
                groups.len() - 1
            });
            if join == Join::Elements {
                order.push((part as u32, groups[part].1.len() as u32));
            }
            groups[part].1.push(at);
        }
        if let [(shard, _)] = groups[..] {
            self.forward_to(id, client, shard, access, &[request], Ends::Itself);
            return;
        }
        let gather = Gather::new(Kind::Redis(join, order), groups.len());
        let sequence = client.ask(Slot::Gather(Box::new(gather)));
        let mut bytes = Vec::new();
        for (part, (shard, keys)) in (0u32..).zip(&groups) {
            bytes.clear();
            resp::write_header(&mut bytes, b'*', 1 + keys.len() * step);
            resp::write_bulk(&mut bytes, arguments[0].of(request));
            for &at in keys {
                arguments[at..at + step].iter().for_each(|span| resp::write_bulk(&mut bytes, span.of(request)));
            }
            let to = For::Client(Asker { client: id, generation: client.generation, sequence, part });
            self.submit(id, client, *shard, access, to, Ends::Itself, &[&bytes]);
        }
    }

    /// Answers what needs no server.
    fn answer(&mut self, client: &mut Client, local: Local, request: &[u8], arguments: &[Span]) {
        let argument = |at: usize| arguments.get(at).map(|span| span.of(request));
        match local {
            Local::Ping => match argument(1) {
                None => client.answer(b"+PONG\r\n"),
                Some(message) => client.answer(&bulk(message)),
            },
            Local::Echo => match argument(1) {
                Some(message) => client.answer(&bulk(message)),
                None => self.refuse(client, "wrong number of arguments for 'echo' command"),
            },
            Local::Quit => {
                client.answer(b"+OK\r\n");
                client.closing = true;
            }
            Local::Auth => match (argument(1), argument(2)) {
                (Some(password), None) => self.authenticate(client, b"default", password, b"+OK\r\n"),
                (Some(user), Some(password)) => self.authenticate(client, user, password, b"+OK\r\n"),
                _ => self.refuse(client, "wrong number of arguments for 'auth' command"),
            },
            Local::Select => {
                // As twemproxy's pools do, each shows itself as database 0, whichever it is of its shards.
                let database = self.pools[client.pool].plan.pool.redis_db.to_string();
                match argument(1) {
                    Some(wanted) if wanted == b"0" || wanted == database.as_bytes() => client.answer(b"+OK\r\n"),
                    Some(_) => {
                        self.refuse(client, &format!("this pool is database {database} of its shards, and no other"));
                    }
                    None => self.refuse(client, "wrong number of arguments for 'select' command"),
                }
            }
            Local::Hello => self.hello(client, &argument),
            Local::Command => client.answer(b"*0\r\n"),
            Local::Client => {
                let word = argument(1).unwrap_or_default().to_ascii_uppercase();
                match &*word {
                    b"SETINFO" | b"NO-EVICT" | b"NO-TOUCH" => client.answer(b"+OK\r\n"),
                    b"SETNAME" => match argument(2) {
                        None => self.refuse(client, "wrong number of arguments for 'client|setname' command"),
                        Some(name) if self.named(client, name) => client.answer(b"+OK\r\n"),
                        Some(_) => {}
                    },
                    b"GETNAME" => match &client.name {
                        Some(name) => {
                            let name = bulk(name);
                            client.answer(&name);
                        }
                        None => client.answer(if client.version == 3 { b"_\r\n" } else { b"$-1\r\n" }),
                    },
                    b"ID" => client.answer(format!(":{}\r\n", client.generation).as_bytes()),
                    _ => self
                        .refuse(client, &format!("CLIENT {} is not supported by the sharding proxy", printable(&word))),
                }
            }
        }
    }

    /// Remembers what a client calls itself, or refuses it.
    fn named(&mut self, client: &mut Client, name: &[u8]) -> bool {
        if name.len() > LONGEST_NAME || !name.iter().all(u8::is_ascii_graphic) {
            self.refuse(
                client,
                "Client names cannot contain spaces, newlines or special characters, nor be longer than 1024",
            );
            return false;
        }
        client.name = (!name.is_empty()).then(|| name.into());
        true
    }

    fn authenticate(&mut self, client: &mut Client, user: &[u8], password: &[u8], welcome: &[u8]) {
        match &self.pools[client.pool].plan.pool.redis_auth {
            None => client.answer(b"-ERR Client sent AUTH, but no password is set\r\n"),
            Some(right) if user == b"default" && same(right.as_bytes(), password) => {
                client.authenticated = true;
                client.answer(welcome);
            }
            Some(_) => {
                client.authenticated = false;
                self.pools[client.pool].stats.refused.add(1);
                client.answer(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n");
            }
        }
    }

    fn hello<'r>(&mut self, client: &mut Client, argument: &impl Fn(usize) -> Option<&'r [u8]>) {
        let version = match argument(1) {
            None => client.version,
            Some(b"2") => 2,
            Some(b"3") => 3,
            Some(other) => {
                let number = std::str::from_utf8(other).is_ok_and(|text| text.parse::<i64>().is_ok());
                client.answer(match number {
                    true => b"-NOPROTO unsupported protocol version\r\n".as_slice(),
                    false => b"-ERR Protocol version is not an integer or out of range\r\n",
                });
                return;
            }
        };
        let (mut at, mut name) = (2, None);
        while let Some(word) = argument(at) {
            match (&*word.to_ascii_uppercase(), argument(at + 1), argument(at + 2)) {
                (b"AUTH", Some(user), Some(password)) => {
                    self.authenticate(client, user, password, b"");
                    if !client.authenticated {
                        return;
                    }
                    at += 3;
                }
                (b"SETNAME", Some(called), _) => {
                    name = Some(called);
                    at += 2;
                }
                _ => {
                    self.refuse(client, "syntax error in HELLO");
                    return;
                }
            }
        }
        if self.pools[client.pool].plan.pool.redis_auth.is_some() && !client.authenticated {
            client.answer(b"-NOAUTH HELLO must be called with the client already authenticated\r\n");
            return;
        }
        if let Some(name) = name
            && !self.named(client, name)
        {
            return;
        }
        client.version = version;
        let mut reply = Vec::with_capacity(160);
        match version {
            3 => resp::write_header(&mut reply, b'%', 7),
            _ => resp::write_header(&mut reply, b'*', 14),
        }
        for (name, value) in [
            ("server", "$5\r\nredis\r\n".to_owned()),
            ("version", "$5\r\n7.0.0\r\n".to_owned()),
            ("proto", format!(":{version}\r\n")),
            ("id", format!(":{}\r\n", client.generation)),
            ("mode", "$10\r\nstandalone\r\n".to_owned()),
            ("role", "$6\r\nmaster\r\n".to_owned()),
            ("modules", "*0\r\n".to_owned()),
        ] {
            resp::write_bulk(&mut reply, name.as_bytes());
            reply.extend_from_slice(value.as_bytes());
        }
        client.answer(&reply);
    }
}

fn bulk(text: &[u8]) -> Vec<u8> {
    let mut reply = Vec::with_capacity(text.len() + 16);
    resp::write_bulk(&mut reply, text);
    reply
}

/// A name that may stand in a line of an error.
fn printable(name: &[u8]) -> String {
    name.iter().take(64).map(|&byte| if byte.is_ascii_graphic() { char::from(byte) } else { '?' }).collect()
}

/// Compares in a time that does not tell how much is the same.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differ, (one, other)| differ | (one ^ other)) == 0
}
