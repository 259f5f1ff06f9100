//! Heads of messages: request and status lines and header fields.
//!
//! A head is one piece of text and spans into it, so that reading one allocates nothing once its vectors have grown. Heads
//! that came over HTTP/2 are written into the same shape: there is one way from here on.
//!
//! Longer than most files because requests, responses and the fields of both are one grammar, and judging it in one place is the point.

use memchr::memchr;

/// A piece of a head's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Behind the last byte.
    pub end: u32,
}

impl Span {
    fn new(start: usize, end: usize) -> Self {
        // Heads are at most 1 MiB (`check` sees to it).
        Self { start: start as u32, end: end as u32 }
    }

    /// The bytes it stands for.
    pub fn of<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        &text[self.start as usize..self.end as usize]
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// Header fields that the proxy itself looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are called what they are called")]
pub enum Known {
    Other,
    Host,
    Date,
    Connection,
    ContentLength,
    TransferEncoding,
    Upgrade,
    KeepAlive,
    ProxyConnection,
    ProxyAuthorization,
    Te,
    Expect,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    XRealIp,
    TraceParent,
    Cookie,
}

impl Known {
    /// Which one a name is, in any case.
    pub fn named(name: &[u8]) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 if is("te") => Self::Te,
            4 if is("host") => Self::Host,
            4 if is("date") => Self::Date,
            6 if is("cookie") => Self::Cookie,
            6 if is("expect") => Self::Expect,
            7 if is("upgrade") => Self::Upgrade,
            9 if is("x-real-ip") => Self::XRealIp,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::KeepAlive,
            11 if is("traceparent") => Self::TraceParent,
            14 if is("content-length") => Self::ContentLength,
            15 if is("x-forwarded-for") => Self::XForwardedFor,
            16 if is("proxy-connection") => Self::ProxyConnection,
            16 if is("x-forwarded-host") => Self::XForwardedHost,
            17 if is("transfer-encoding") => Self::TransferEncoding,
            17 if is("x-forwarded-proto") => Self::XForwardedProto,
            19 if is("proxy-authorization") => Self::ProxyAuthorization,
            _ => Self::Other,
        }
    }
}

/// One header field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name as it was written.
    pub name: Span,
    /// Its value without the space around it.
    pub value: Span,
    /// Which one it is.
    pub known: Known,
    /// Belongs to this connection only and is not passed on: named by `Connection`, or by RFC 9110 section 7.6.1.
    pub hop: bool,
}

/// How long a body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    #[default]
    None,
    /// So many bytes.
    Length(u64),
    /// In chunks (HTTP/1) or until the stream ends (HTTP/2).
    Chunked,
    /// Until the connection closes. Responses only.
    UntilClose,
}

/// A request's head.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// What the spans point into.
    pub text: Vec<u8>,
    /// The method, case-sensitive.
    pub method: Span,
    /// The path, from its slash to before `?`. Empty for `*` and for an absolute target without one.
    pub path: Span,
    /// Path and query as they were asked for.
    pub target: Span,
    /// The host asked for, with its port: of the target if it has one, else of `Host`.
    pub host: Span,
    /// The fields, in order.
    pub fields: Vec<Field>,
    /// 10, 11 or 20.
    pub version: u8,
    /// The body.
    pub framing: Framing,
    /// Another request may follow on the connection.
    pub keep_alive: bool,
    /// `Connection: upgrade` and an `Upgrade` field.
    pub upgrade: bool,
    /// `Expect: 100-continue`.
    pub expects_continue: bool,
}

/// A response's head.
#[derive(Debug, Default)]
pub struct Response {
    /// What the spans point into.
    pub text: Vec<u8>,
    /// 100 to 999.
    pub status: u16,
    /// The reason phrase.
    pub reason: Span,
    /// The fields, in order.
    pub fields: Vec<Field>,
    /// 10, 11 or 20.
    pub version: u8,
    /// The body.
    pub framing: Framing,
    /// The connection can be used again after the body.
    pub keep_alive: bool,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Not HTTP/1, or not as it must be.
    #[error("{0}")]
    Malformed(&'static str),
    /// More than the limits allow.
    #[error("the header is too large")]
    TooLarge,
    /// The request line alone is more than the limits allow.
    #[error("the request target is too long")]
    TargetTooLong,
    /// Not HTTP/1.0 or 1.1.
    #[error("the HTTP version is not supported")]
    Version,
    /// A transfer coding other than `chunked`, or a method that is not for a proxy of this kind.
    #[error("{0} is not implemented")]
    NotImplemented(&'static str),
}

impl Broken {
    /// The status that says so.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::TooLarge => 431,
            Self::TargetTooLong => 414,
            Self::Version => 505,
            Self::NotImplemented(_) => 501,
        }
    }
}

/// Adds a field to a head's text and fields.
fn push_field(text: &mut Vec<u8>, fields: &mut Vec<Field>, name: &[u8], value: &[u8]) {
    let start = text.len();
    text.extend_from_slice(name);
    let middle = text.len();
    text.extend_from_slice(value);
    let known = Known::named(name);
    let (name, value) = (Span::new(start, middle), Span::new(middle, text.len()));
    fields.push(Field { name, value, known, hop: is_hop(known) });
}

/// The value of the first field of a name, which must be in lower case.
fn header<'t>(text: &'t [u8], fields: &[Field], name: &str) -> Option<&'t [u8]> {
    fields.iter().find(|f| f.name.of(text).eq_ignore_ascii_case(name.as_bytes())).map(|f| f.value.of(text))
}

/// Reads a request head at the beginning of `request.text`. Returns its length, or `None` if more bytes are needed.
///
/// # Errors
/// When the head breaks a rule, or is longer than `limit` bytes or `max_fields` fields.
pub fn parse_request(request: &mut Request, limit: usize, max_fields: usize) -> Result<Option<usize>, Broken> {
    let Request { text, fields, .. } = request;
    // RFC 9112 section 2.2: an empty line before a request is skipped; one, not many.
    let begin = if text.starts_with(b"\r\n") { 2 } else { 0 };
    let Some(line) = next_line(text, begin)? else {
        return if text.len() > limit { Err(Broken::TargetTooLong) } else { Ok(None) };
    };
    if line.end > limit {
        return Err(Broken::TargetTooLong);
    }
    let Some(end) = read_fields(text, line.next, fields, max_fields, limit)? else {
        return if text.len() > limit { Err(Broken::TooLarge) } else { Ok(None) };
    };
    if end > limit {
        return Err(Broken::TooLarge);
    }
    let bytes = &text[begin..line.end];
    let bad = Broken::Malformed("the request line is broken");
    let first = memchr(b' ', bytes).ok_or(bad)?;
    let second = first + 1 + memchr(b' ', &bytes[first + 1..]).ok_or(bad)?;
    request.method = Span::new(begin, begin + first);
    if first == 0 || !bytes[..first].iter().all(|b| TOKEN[*b as usize]) {
        return Err(Broken::Malformed("the method is not a token"));
    }
    request.version = match &bytes[second + 1..] {
        b"HTTP/1.1" => 11,
        b"HTTP/1.0" => 10,
        other
            if other.len() == 8
                && other.starts_with(b"HTTP/")
                && other[5].is_ascii_digit()
                && other[6] == b'.'
                && other[7].is_ascii_digit() =>
        {
            return Err(Broken::Version);
        }
        _ => return Err(bad),
    };
    let target = Span::new(begin + first + 1, begin + second);
    if !request.read_target(target)? && request.method.of(&request.text) != b"OPTIONS" {
        return Err(Broken::Malformed("the target * is for OPTIONS"));
    }
    if request.method.of(&request.text) == b"CONNECT" {
        return Err(Broken::NotImplemented("CONNECT"));
    }
    request.judge()?;
    Ok(Some(end))
}

impl Request {
    /// Empties it for the next one; what was allocated is kept.
    pub fn clear(&mut self) {
        self.text.clear();
        self.fields.clear();
        self.host = Span::default();
        self.path = Span::default();
        self.target = Span::default();
    }

    /// One of its own with the same content.
    pub fn duplicate(&self) -> Self {
        self.clone()
    }

    /// The value of the first field of a name, which must be in lower case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        header(&self.text, &self.fields, name)
    }

    /// The value of the first field that is `known`.
    pub fn known(&self, known: Known) -> Option<&[u8]> {
        self.fields.iter().find(|f| f.known == known).map(|f| f.value.of(&self.text))
    }

    /// The value of a cookie.
    pub fn cookie(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().filter(|f| f.known == Known::Cookie).find_map(|field| {
            field.value.of(&self.text).split(|b| *b == b';').find_map(|pair| {
                let pair = pair.trim_ascii();
                let equals = memchr(b'=', pair)?;
                (&pair[..equals] == name.as_bytes()).then(|| &pair[equals + 1..])
            })
        })
    }

    /// The path, `/` if it has none.
    pub fn path(&self) -> &[u8] {
        if self.path.is_empty() { b"/" } else { self.path.of(&self.text) }
    }

    /// Path and query, as they are passed on.
    pub fn target(&self) -> &[u8] {
        self.target.of(&self.text)
    }

    /// What stands behind `?`.
    pub fn query(&self) -> Option<&[u8]> {
        let target = self.target();
        memchr(b'?', target).map(|at| &target[at + 1..])
    }

    /// The method.
    pub fn method(&self) -> &[u8] {
        self.method.of(&self.text)
    }

    /// The host without its port.
    pub fn hostname(&self) -> &[u8] {
        let host = self.host.of(&self.text);
        if host.first() == Some(&b'[') {
            return memchr(b']', host).map_or(host, |end| &host[..=end]);
        }
        memchr(b':', host).map_or(host, |colon| &host[..colon])
    }

    /// Whether doing it twice is as doing it once (RFC 9110 section 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        matches!(self.method(), b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE")
    }

    /// Adds a field that came in another way (HTTP/2).
    pub fn push_field(&mut self, name: &[u8], value: &[u8]) {
        push_field(&mut self.text, &mut self.fields, name, value);
    }

    /// Adds text and returns where it stands.
    pub fn push_text(&mut self, bytes: &[u8]) -> Span {
        let start = self.text.len();
        self.text.extend_from_slice(bytes);
        Span::new(start, self.text.len())
    }

    /// Splits a target that came in another way (HTTP/2) into path and query.
    pub fn set_target(&mut self, target: Span) {
        self.target = target;
        let query = memchr(b'?', target.of(&self.text)).map_or(target.end, |at| target.start + at as u32);
        self.path = Span { start: target.start, end: query };
    }

    /// Forms of targets (RFC 9112 section 3.2). Returns whether it is anything but `*`.
    fn read_target(&mut self, target: Span) -> Result<bool, Broken> {
        let bytes = target.of(&self.text);
        if bytes.is_empty() || !bytes.iter().all(|b| (0x21..0x7f).contains(b) && *b != b'#') {
            return Err(Broken::Malformed("the request target has bytes that no target has"));
        }
        self.host = Span::default();
        if bytes[0] == b'/' {
            self.set_target(target);
            return Ok(true);
        }
        if bytes == b"*" {
            self.target = target;
            self.path = Span::default();
            return Ok(false);
        }
        if self.method.of(&self.text) == b"CONNECT" {
            return Ok(true);
        }
        let scheme = [&b"http://"[..], b"https://"]
            .into_iter()
            .find(|s| bytes.len() >= s.len() && bytes[..s.len()].eq_ignore_ascii_case(s));
        let Some(scheme) = scheme else {
            return Err(Broken::Malformed("the request target has none of the four forms"));
        };
        let rest = &bytes[scheme.len()..];
        let length = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
        if !is_host(&rest[..length]) || length == 0 {
            return Err(Broken::Malformed("the host of the request target is broken"));
        }
        let start = target.start + scheme.len() as u32;
        self.host = Span { start, end: start + length as u32 };
        self.set_target(Span { start: self.host.end, end: target.end });
        Ok(true)
    }

    /// What the fields mean together: host, body, connection. For heads of HTTP/2 too.
    ///
    /// # Errors
    /// Where two readers could read different things.
    pub fn judge(&mut self) -> Result<(), Broken> {
        let text = &self.text;
        let mut hosts = 0;
        let mut length = None;
        let mut coded = false;
        let (mut close, mut keep, mut upgrade, mut has_upgrade) = (false, false, false, false);
        let mut named = false;
        self.expects_continue = false;
        for field in &self.fields {
            let value = field.value.of(text);
            match field.known {
                Known::Host => {
                    hosts += 1;
                    if !is_host(value) {
                        return Err(Broken::Malformed("the Host field is broken"));
                    }
                    if self.host.is_empty() {
                        self.host = field.value;
                    }
                }
                Known::ContentLength => read_length(value, &mut length)?,
                Known::TransferEncoding => {
                    if coded {
                        return Err(Broken::Malformed("there are two transfer codings"));
                    }
                    if !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Broken::NotImplemented("a transfer coding other than chunked"));
                    }
                    coded = true;
                }
                Known::Connection => {
                    for option in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                        match option {
                            o if o.eq_ignore_ascii_case(b"close") => close = true,
                            o if o.eq_ignore_ascii_case(b"keep-alive") => keep = true,
                            o if o.eq_ignore_ascii_case(b"upgrade") => upgrade = true,
                            b"" => {}
                            _ => named = true,
                        }
                    }
                }
                Known::Upgrade => has_upgrade = true,
                Known::Expect => self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue"),
                _ => {}
            }
        }
        // HTTP/2 may name the host in `:authority` alone, but must name it (RFC 9113 section 8.3.1).
        if hosts > 1 || (hosts == 0 && self.version == 11) || (self.version == 20 && self.host.is_empty()) {
            return Err(Broken::Malformed("there is not exactly one Host field"));
        }
        if coded && length.is_some() {
            return Err(Broken::Malformed("there are both Content-Length and Transfer-Encoding"));
        }
        if coded && self.version != 11 {
            return Err(Broken::Malformed("Transfer-Encoding is for HTTP/1.1"));
        }
        if self.version != 20 {
            self.framing = match (coded, length) {
                (true, _) => Framing::Chunked,
                (false, Some(length)) => Framing::Length(length),
                (false, None) => Framing::None,
            };
            self.keep_alive = !close && (self.version == 11 || keep);
            self.upgrade = upgrade
                && has_upgrade
                && self.version == 11
                && matches!(self.framing, Framing::None | Framing::Length(0));
        } else {
            self.keep_alive = true;
            self.upgrade = false;
        }
        self.expects_continue &= self.version == 11 && self.framing != Framing::None;
        if named {
            mark_named(text, &mut self.fields);
        }
        Ok(())
    }
}

/// Reads a response head at the beginning of `response.text`. Returns its length, or `None` if more bytes are needed.
///
/// # Errors
/// As for requests; whoever sent it is not to be trusted with more requests.
pub fn parse_response(response: &mut Response, to_head: bool, limit: usize) -> Result<Option<usize>, Broken> {
    let Response { text, fields, .. } = response;
    let Some(line) = next_line(text, 0)? else {
        return if text.len() > limit { Err(Broken::TooLarge) } else { Ok(None) };
    };
    let Some(end) = read_fields(text, line.next, fields, 256, limit)? else {
        return if text.len() > limit { Err(Broken::TooLarge) } else { Ok(None) };
    };
    let bytes = &text[..line.end];
    let bad = Broken::Malformed("the status line is broken");
    if bytes.len() < 12
        || bytes[8] != b' '
        || !bytes[9..12].iter().all(u8::is_ascii_digit)
        || bytes.get(12).is_some_and(|b| *b != b' ')
    {
        return Err(bad);
    }
    response.version = match &bytes[..8] {
        b"HTTP/1.1" => 11,
        b"HTTP/1.0" => 10,
        _ => return Err(bad),
    };
    response.status = bytes[9..12].iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
    if response.status < 100 {
        return Err(bad);
    }
    response.reason = Span::new(line.end.min(13), line.end);
    if response.reason.of(text).iter().any(|b| (*b < b' ' && *b != b'\t') || *b == 0x7f) {
        return Err(bad);
    }
    response.judge(to_head)?;
    Ok(Some(end))
}

impl Response {
    /// Empties it for the next one; what was allocated is kept.
    pub fn clear(&mut self) {
        self.text.clear();
        self.fields.clear();
        self.reason = Span::default();
    }

    /// The value of the first field of a name, which must be in lower case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        header(&self.text, &self.fields, name)
    }

    /// Adds a field that came in another way (HTTP/2, the cache).
    pub fn push_field(&mut self, name: &[u8], value: &[u8]) {
        push_field(&mut self.text, &mut self.fields, name, value);
    }

    /// What the fields mean together: body and connection (RFC 9112 section 6.3).
    fn judge(&mut self, to_head: bool) -> Result<(), Broken> {
        let text = &self.text;
        let mut length = None;
        let mut coded = false;
        let (mut close, mut keep, mut named) = (false, false, false);
        for field in &self.fields {
            let value = field.value.of(text);
            match field.known {
                Known::ContentLength => read_length(value, &mut length)?,
                Known::TransferEncoding => {
                    if coded || !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Broken::Malformed("the response has a transfer coding other than chunked"));
                    }
                    coded = true;
                }
                Known::Connection => {
                    for option in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                        match option {
                            o if o.eq_ignore_ascii_case(b"close") => close = true,
                            o if o.eq_ignore_ascii_case(b"keep-alive") => keep = true,
                            o if o.eq_ignore_ascii_case(b"upgrade") || o.is_empty() => {}
                            _ => named = true,
                        }
                    }
                }
                _ => {}
            }
        }
        if coded && (length.is_some() || self.version == 10) {
            return Err(Broken::Malformed("the response has two lengths"));
        }
        self.keep_alive = !close && (self.version == 11 || keep);
        self.framing = match () {
            () if to_head || self.status < 200 || self.status == 204 || self.status == 304 => Framing::None,
            () if coded => Framing::Chunked,
            () => match length {
                Some(length) => Framing::Length(length),
                None => Framing::UntilClose,
            },
        };
        if self.framing == Framing::UntilClose {
            self.keep_alive = false;
        }
        if named {
            mark_named(text, &mut self.fields);
        }
        Ok(())
    }
}

struct Line {
    end: usize,
    next: usize,
}

/// The next line; its end must be CR LF, and no other CR may stand in it.
fn next_line(text: &[u8], start: usize) -> Result<Option<Line>, Broken> {
    let Some(length) = memchr(b'\n', &text[start..]) else {
        // A CR that is followed by something else can be refused without waiting for the line's end.
        if let Some(cr) = memchr(b'\r', &text[start..])
            && start + cr + 1 < text.len()
        {
            return Err(Broken::Malformed("a CR stands alone"));
        }
        return Ok(None);
    };
    let end = start + length;
    if length == 0 || text[end - 1] != b'\r' {
        return Err(Broken::Malformed("a line ends with LF alone"));
    }
    if memchr(b'\r', &text[start..end - 1]).is_some() {
        return Err(Broken::Malformed("a CR stands alone"));
    }
    Ok(Some(Line { end: end - 1, next: end + 1 }))
}

/// Reads fields up to and with the empty line. Returns where the head ends.
fn read_fields(
    text: &[u8],
    mut at: usize,
    fields: &mut Vec<Field>,
    max: usize,
    limit: usize,
) -> Result<Option<usize>, Broken> {
    fields.clear();
    loop {
        let Some(line) = next_line(text, at)? else { return Ok(None) };
        if line.end == at {
            return Ok(Some(line.next));
        }
        if fields.len() == max || line.next > limit {
            return Err(Broken::TooLarge);
        }
        fields.push(read_field(text, at, line.end)?);
        at = line.next;
    }
}

/// One line of a header or trailer.
fn read_field(text: &[u8], start: usize, end: usize) -> Result<Field, Broken> {
    let line = &text[start..end];
    if matches!(line[0], b' ' | b'\t') {
        return Err(Broken::Malformed("a header line is folded"));
    }
    let colon = memchr(b':', line).ok_or(Broken::Malformed("a header line has no colon"))?;
    if colon == 0 || !line[..colon].iter().all(|b| TOKEN[*b as usize]) {
        return Err(Broken::Malformed("a header name is not a token"));
    }
    let value = &line[colon + 1..];
    if value.iter().any(|b| (*b < b' ' && *b != b'\t') || *b == 0x7f) {
        return Err(Broken::Malformed("a header value has control characters"));
    }
    let space = |b: &u8| matches!(b, b' ' | b'\t');
    let left = value.iter().take_while(|b| space(b)).count();
    let right = value[left..].iter().rev().take_while(|b| space(b)).count();
    let known = Known::named(&line[..colon]);
    Ok(Field {
        name: Span::new(start, start + colon),
        value: Span::new(start + colon + 1 + left, end - right),
        known,
        hop: is_hop(known),
    })
}

/// Reads trailer fields: lines up to and with the empty one. Returns where they end.
pub(super) fn parse_trailers(text: &[u8], fields: &mut Vec<Field>, limit: usize) -> Result<Option<usize>, Broken> {
    read_fields(text, 0, fields, 64, limit)
}

fn is_hop(known: Known) -> bool {
    matches!(
        known,
        Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::ProxyAuthorization
            | Known::Te
            | Known::TransferEncoding
            | Known::Upgrade
    )
}

/// Marks the fields that `Connection` names. Those a proxy needs or adds stay: naming them must not hide them.
fn mark_named(text: &[u8], fields: &mut [Field]) {
    for i in 0..fields.len() {
        if fields[i].known != Known::Connection {
            continue;
        }
        let options = fields[i].value;
        for field in fields.iter_mut() {
            let keep = matches!(field.known, Known::Host | Known::ContentLength | Known::Cookie) || field.hop;
            if !keep
                && options
                    .of(text)
                    .split(|b| *b == b',')
                    .any(|o| o.trim_ascii().eq_ignore_ascii_case(field.name.of(text)))
            {
                field.hop = true;
            }
        }
    }
}

/// `Content-Length`: digits only, and once.
fn read_length(value: &[u8], length: &mut Option<u64>) -> Result<(), Broken> {
    let bad = Broken::Malformed("the Content-Length is not a number");
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return Err(bad);
    }
    let number = value.iter().fold(0u64, |n, d| n * 10 + u64::from(d - b'0'));
    if length.replace(number).is_some() {
        return Err(Broken::Malformed("there are two Content-Length fields"));
    }
    Ok(())
}

/// A host as RFC 3986 writes it, with a port or without, or nothing.
fn is_host(value: &[u8]) -> bool {
    value.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+;=".contains(b))
}

/// Characters of tokens (RFC 9110 section 5.6.2).
static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        table[i] = b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
        i += 1;
    }
    table
};
