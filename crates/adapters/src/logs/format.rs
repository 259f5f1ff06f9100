//! One record of a log becomes fields. Pure.

use jiff::{Timestamp, tz::TimeZone};
use regex_lite::Regex;
use serde_json::{Map, Value};

use super::{config::Kind, pattern, time};

/// How records are read.
#[derive(Clone, Debug)]
pub struct Format {
    kind: Kind,
    regex: Option<Regex>,
    /// The field that holds the time; common names if not given.
    time_field: Option<String>,
    time_format: Option<String>,
    zone: TimeZone,
}

/// One record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// When it was written, if it says.
    pub time: Option<Timestamp>,
    /// What it says, without what became fields.
    pub message: Option<String>,
    /// Its severity in small letters, if it says.
    pub level: Option<String>,
    /// Everything else.
    pub fields: Map<String, Value>,
    /// It could not be read as its format: the message is all of it.
    pub unparsed: bool,
}

const TIMES: [&str; 8] = ["time", "timestamp", "@timestamp", "ts", "t", "datetime", "date", "asctime"];
const MESSAGES: [&str; 5] = ["message", "msg", "log", "MESSAGE", "text"];
const LEVELS: [&str; 6] = ["level", "severity", "lvl", "loglevel", "levelname", "PRIORITY"];

/// The combined format of nginx and apache, with what may follow it.
const ACCESS: &str = r#"^(?<client>\S+) (?<ident>\S+) (?<user>\S+) \[(?<time>[^\]]+)\] "(?<request>(?:[^"\\]|\\.)*)" (?<status>\d{3}|-) (?<bytes>\d+|-)(?: "(?<referer>(?:[^"\\]|\\.)*)" "(?<agent>(?:[^"\\]|\\.)*)")?(?<more>.*)$"#;
const NGINX_ERROR: &str = r"^(?<time>\d{4}/\d{2}/\d{2} \d{2}:\d{2}:\d{2}) \[(?<level>\w+)\] (?<pid>\d+)#(?<tid>\d+): (?:\*(?<connection>\d+) )?(?s:(?<message>.*))$";
const APACHE_ERROR: &str = r"^\[(?<time>\w{3} \w{3} \d{2} [\d:.]+ \d{4})\] \[(?:(?<module>[^:\]]*):)?(?<level>\w+)\] (?:\[pid (?<pid>\d+)(?::tid (?<tid>\d+))?\] )?(?:\[client (?<client>[^\]]+)\] )?(?s:(?<message>.*))$";
const REDIS: &str =
    r"^(?<pid>\d+):(?<role>[XCSM]) (?<time>\d{2} \w{3} \d{4} [\d:.]+) (?<level>[.\-*#]) (?s:(?<message>.*))$";
const RFC3164: &str = r"^(?:<(?<priority>\d{1,3})>)?(?<time>\w{3} [ \d]\d \d{2}:\d{2}:\d{2}(?:\.\d+)?|\d{4}-\d{2}-\d{2}T\S+) (?<host>\S+) (?<program>[^\s\[:]+)(?:\[(?<pid>[^\]]*)\])?: ?(?s:(?<message>.*))$";
const RFC5424: &str = r#"^<(?<priority>\d{1,3})>1 (?<time>\S+) (?<host>\S+) (?<program>\S+) (?<pid>\S+) (?<id>\S+) (?<data>-|(?:\[(?:[^\]"\\]|\\.|"(?:[^"\\]|\\.)*")*\])+)(?: (?s:(?<message>.*)))?$"#;

impl Format {
    /// A format by its configuration.
    ///
    /// # Errors
    /// If the pattern is none, or the zone unknown.
    pub fn new(
        kind: Kind,
        given: Option<&str>,
        time_field: Option<String>,
        time_format: Option<String>,
        zone: Option<&str>,
    ) -> Result<Self, String> {
        let expression = |text: &str| Regex::new(text).map_err(|error| error.to_string());
        let regex = match (kind, given) {
            (Kind::Regex, Some(given)) => Some(pattern::compile(given)?),
            (Kind::Regex, None) => return Err("a regex needs its pattern".into()),
            (Kind::Nginx | Kind::Apache, _) => Some(expression(ACCESS)?),
            (Kind::NginxError, _) => Some(expression(NGINX_ERROR)?),
            (Kind::ApacheError, _) => Some(expression(APACHE_ERROR)?),
            (Kind::Redis, _) => Some(expression(REDIS)?),
            (Kind::Syslog, _) => Some(expression(RFC3164)?),
            (Kind::Syslog5424, _) => Some(expression(RFC5424)?),
            (Kind::Json | Kind::Logfmt | Kind::Cri | Kind::Raw, _) => None,
        };
        let zone = match zone {
            Some(name) => TimeZone::get(name).map_err(|error| error.to_string())?,
            None => TimeZone::UTC,
        };
        Ok(Self { kind, regex, time_field, time_format, zone })
    }

    /// Reads a record. What is not of the format is told as it is.
    #[must_use]
    pub fn read(&self, text: &str, now: Timestamp) -> Record {
        let fields = match self.kind {
            Kind::Raw => None,
            Kind::Json => match serde_json::from_str(text) {
                Ok(Value::Object(fields)) => Some(fields),
                _ => None,
            },
            Kind::Logfmt => logfmt(text),
            Kind::Cri => cri(text),
            _ => self.regex.as_ref().and_then(|regex| captured(regex, text)),
        };
        let Some(fields) = fields else {
            let unparsed = self.kind != Kind::Raw;
            return Record { message: Some(text.to_owned()), unparsed, ..Record::default() };
        };
        self.settle(fields, now)
    }

    /// Takes time, message and level out of the fields.
    fn settle(&self, mut fields: Map<String, Value>, now: Timestamp) -> Record {
        let mut record = Record::default();
        let named: Vec<&str> = self.time_field.iter().map(String::as_str).collect();
        for name in if named.is_empty() { &TIMES[..] } else { &named } {
            let text = match fields.get(*name) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                _ => continue,
            };
            record.time = time::parse(&text, self.time_format.as_deref(), &self.zone, now);
            if record.time.is_some() {
                fields.shift_remove(*name);
                break;
            }
        }
        if let Some(Value::String(text)) = MESSAGES.iter().find_map(|name| fields.shift_remove(*name)) {
            record.message = Some(text);
        }
        if let Some(name) =
            LEVELS.iter().find(|name| fields.get(**name).is_some_and(|level| level.is_string() || level.is_number()))
        {
            record.level = fields.shift_remove(*name).and_then(|level| match level {
                Value::String(text) => Some(self.level(&text)),
                Value::Number(number) => number.as_u64().map(numbered),
                _ => None,
            });
        }
        match self.kind {
            Kind::Nginx | Kind::Apache => request(&mut fields),
            Kind::Syslog | Kind::Syslog5424 => {
                if let Some(priority) = fields.shift_remove("priority").and_then(|priority| priority.as_u64()) {
                    const SEVERITIES: [&str; 8] =
                        ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"];
                    record.level = Some(SEVERITIES[usize::try_from(priority % 8).unwrap_or(0)].to_owned());
                    fields.insert("facility".into(), Value::from(priority / 8));
                }
            }
            _ => {}
        }
        // A dash stands for nothing in these formats.
        if !matches!(self.kind, Kind::Json | Kind::Logfmt | Kind::Regex) {
            fields.retain(|_, value| !matches!(value.as_str(), Some("-" | "")));
        }
        record.fields = fields;
        record
    }

    fn level(&self, text: &str) -> String {
        match (self.kind, text) {
            (Kind::Redis, ".") => "debug".into(),
            (Kind::Redis, "-") => "verbose".into(),
            (Kind::Redis, "*") => "notice".into(),
            (Kind::Redis, "#") => "warning".into(),
            _ => text.to_ascii_lowercase(),
        }
    }
}

/// As pino and bunyan number them.
fn numbered(number: u64) -> String {
    match number {
        10 => "trace".into(),
        20 => "debug".into(),
        30 => "info".into(),
        40 => "warn".into(),
        50 => "error".into(),
        60 => "fatal".into(),
        other => other.to_string(),
    }
}

fn captured(regex: &Regex, text: &str) -> Option<Map<String, Value>> {
    let found = regex.captures(text)?;
    let named = regex.capture_names().flatten().filter_map(|name| {
        let value = found.name(name)?.as_str();
        Some((name.to_owned(), if name == "message" { Value::from(value) } else { typed(value) }))
    });
    Some(named.collect())
}

/// Whole and decimal numbers become numbers; everything else stays text. What would not read back the same stays text too.
fn typed(text: &str) -> Value {
    if let Ok(number) = text.parse::<i64>()
        && number.to_string() == text
    {
        return Value::from(number);
    }
    let decimal = text.contains('.')
        && text.len() < 16
        && text.bytes().all(|byte| byte.is_ascii_digit() || b".-".contains(&byte));
    match text.parse::<f64>() {
        Ok(number) if decimal && number.is_finite() => Value::from(number),
        _ => Value::from(text),
    }
}

/// `"GET /path HTTP/1.1"` becomes three fields.
fn request(fields: &mut Map<String, Value>) {
    if let Some(more) = fields.get("more").and_then(Value::as_str).map(str::trim) {
        let more = if more.is_empty() { "-".to_owned() } else { more.to_owned() };
        fields.insert("more".into(), more.into());
    }
    let Some(Value::String(request)) = fields.get("request") else { return };
    let request = request.clone();
    let mut words = request.split(' ');
    if let (Some(method), Some(path), Some(protocol), None) = (words.next(), words.next(), words.next(), words.next()) {
        fields.shift_remove("request");
        for (name, value) in [("method", method), ("path", path), ("protocol", protocol)] {
            fields.insert(name.into(), value.into());
        }
    }
}

/// `a=1 b="two words" c`: nothing if no pair is there.
fn logfmt(text: &str) -> Option<Map<String, Value>> {
    let mut fields = Map::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest.find([' ', '=']).unwrap_or(rest.len());
        let key = &rest[..end];
        rest = &rest[end..];
        if let Some(after) = rest.strip_prefix('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => unquote(quoted)?,
                None => {
                    let end = after.find(' ').unwrap_or(after.len());
                    (typed(&after[..end]), &after[end..])
                }
            };
            if !key.is_empty() {
                fields.insert(key.to_owned(), value);
            }
            rest = after;
        } else if !key.is_empty() {
            fields.insert(key.to_owned(), Value::Bool(true));
        }
        rest = rest.trim_start();
    }
    fields.values().any(|value| *value != Value::Bool(true)).then_some(fields)
}

/// The text up to the closing quote, and what follows it.
fn unquote(text: &str) -> Option<(Value, &str)> {
    let (mut value, mut escaped) = (String::new(), false);
    for (at, letter) in text.char_indices() {
        match letter {
            'n' if escaped => value.push('\n'),
            't' if escaped => value.push('\t'),
            letter if escaped => value.push(letter),
            '\\' => {
                escaped = true;
                continue;
            }
            '"' => return Some((Value::from(value), &text[at + 1..])),
            letter => value.push(letter),
        }
        escaped = false;
    }
    None
}

/// `TIME STREAM TAGS MESSAGE`, as container runtimes write it.
fn cri(text: &str) -> Option<Map<String, Value>> {
    let mut parts = text.splitn(4, ' ');
    let (time, stream, tags) = (parts.next()?, parts.next()?, parts.next()?);
    let message = parts.next().unwrap_or_default();
    let legal = ["stdout", "stderr"].contains(&stream) && matches!(tags.split(':').next(), Some("F" | "P"));
    legal.then(|| {
        let pairs = [("time", time), ("stream", stream), ("message", message)];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(kind: Kind, text: &str) -> Value {
        let format = Format::new(kind, None, None, None, None).unwrap();
        let record = format.read(text, "2026-03-05T00:00:00Z".parse().unwrap());
        json!({
            "time": record.time.map(|at| at.to_string()), "level": record.level, "message": record.message,
            "fields": record.fields, "unparsed": record.unparsed,
        })
    }

    #[test]
    fn every_format_becomes_the_same_kind_of_record() {
        let record = |time: &str, level: Value, message: Value, fields: Value| json!({"time": time, "level": level, "message": message, "fields": fields, "unparsed": false});
        let at = "2026-03-04T05:06:07Z";
        assert_eq!(
            read(Kind::Json, r#"{"ts": 1772600767, "msg": "hi", "level": "WARN", "n": 1}"#),
            record(at, json!("warn"), json!("hi"), json!({"n": 1}))
        );
        assert_eq!(
            read(Kind::Logfmt, r#"time=2026-03-04T05:06:07Z level=info msg="a \"b\"" took=1.5 ok id=007"#),
            record(at, json!("info"), json!("a \"b\""), json!({"took": 1.5, "ok": true, "id": "007"}))
        );
        assert_eq!(
            read(Kind::Cri, "2026-03-04T05:06:07Z stderr F some text"),
            record(at, Value::Null, json!("some text"), json!({"stream": "stderr"}))
        );
        assert_eq!(
            read(
                Kind::Nginx,
                r#"10.0.0.1 - - [04/Mar/2026:05:06:07 +0000] "GET /a?b HTTP/1.1" 200 612 "-" "curl/8 \"x\"" 0.1"#
            ),
            record(
                at,
                Value::Null,
                Value::Null,
                json!({
                    "client": "10.0.0.1", "status": 200, "bytes": 612, "agent": "curl/8 \\\"x\\\"", "more": "0.1",
                    "method": "GET", "path": "/a?b", "protocol": "HTTP/1.1",
                })
            )
        );
        assert_eq!(
            read(Kind::NginxError, "2026/03/04 05:06:07 [error] 7#8: *9 open() failed"),
            record(at, json!("error"), json!("open() failed"), json!({"pid": 7, "tid": 8, "connection": 9}))
        );
        assert_eq!(
            read(
                Kind::ApacheError,
                "[Wed Mar 04 05:06:07.000000 2026] [core:warn] [pid 5:tid 6] [client 1.2.3.4:5] AH1: no"
            ),
            record(
                at,
                json!("warn"),
                json!("AH1: no"),
                json!({"module": "core", "pid": 5, "tid": 6, "client": "1.2.3.4:5"})
            )
        );
        assert_eq!(
            read(Kind::Syslog, "<34>Mar  4 05:06:07 host su[12]: failed"),
            record(
                at,
                json!("critical"),
                json!("failed"),
                json!({"host": "host", "program": "su", "pid": 12, "facility": 4})
            )
        );
        assert_eq!(
            read(Kind::Syslog5424, r#"<165>1 2026-03-04T05:06:07Z h app - ID47 [x@1 a="b\]"] text"#),
            record(
                at,
                json!("notice"),
                json!("text"),
                json!({"host": "h", "program": "app", "id": "ID47", "data": r#"[x@1 a="b\]"]"#, "facility": 20})
            )
        );
        assert_eq!(
            read(Kind::Redis, "42:M 04 Mar 2026 05:06:07.000 # low memory"),
            record(at, json!("warning"), json!("low memory"), json!({"pid": 42, "role": "M"}))
        );
    }

    #[test]
    fn what_is_not_of_the_format_is_told_as_it_is() {
        for kind in [Kind::Json, Kind::Logfmt, Kind::Cri, Kind::Nginx, Kind::Syslog, Kind::Redis] {
            for text in ["", "no such thing", "[1]", "\"", "a=\"open", "\u{fffd}"] {
                let told = read(kind, text);
                assert_eq!((&told["message"], &told["unparsed"]), (&json!(text), &json!(true)), "{kind:?} {text:?}");
            }
        }
        assert_eq!(read(Kind::Raw, "x")["unparsed"], false);
    }

    #[test]
    fn a_pattern_of_ones_own_is_read() {
        let format = Format::new(
            Kind::Regex,
            Some(r"^%{TIMESTAMP_ISO8601:at} \[%{LOGLEVEL:level}\] %{GREEDYDATA:message}$"),
            Some("at".into()),
            None,
            Some("Europe/Berlin"),
        )
        .unwrap();
        let record = format.read("2026-03-04 06:06:07,5 [Error] a\nb", Timestamp::UNIX_EPOCH);
        assert_eq!(record.time.unwrap().to_string(), "2026-03-04T05:06:07.5Z");
        assert_eq!((record.level.as_deref(), record.message.as_deref()), (Some("error"), Some("a\nb")));
        assert!(Format::new(Kind::Regex, Some("("), None, None, None).is_err());
        assert!(Format::new(Kind::Raw, None, None, None, Some("Nowhere/Land")).is_err());
    }
}
