//! Dates of HTTP in their three forms (RFC 9110 section 5.6.7).
//!
//! The names are taken in any case, and the day of the week is not looked at: servers err there, and what they mean is
//! plain. Everything else is as it must be, or there is no date.

/// Seconds since 1970.
pub(crate) fn parse(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let words: Vec<&str> = text.split(' ').collect();
    match words[..] {
        // Sun, 06 Nov 1994 08:49:37 GMT
        [weekday, day, month, year, time, zone] if year.len() == 4 => {
            (is_weekday(weekday.strip_suffix(',')?) && is_zone(zone)).then_some(())?;
            seconds(number(year, 4)?, month, number(day, 2)?, time)
        }
        // Sunday, 06-Nov-94 08:49:37 GMT
        [weekday, date, time, zone] => {
            (is_weekday(weekday.strip_suffix(',')?) && is_zone(zone)).then_some(())?;
            let (day, rest) = date.split_once('-')?;
            let (month, year) = rest.split_once('-')?;
            let year = number(year, 2)?;
            seconds(if year < 70 { 2000 + year } else { 1900 + year }, month, number(day, 2)?, time)
        }
        // Sun Nov  6 08:49:37 1994
        [weekday, month, "", day, time, year] if is_weekday(weekday) => {
            seconds(number(year, 4)?, month, number(day, 1)?, time)
        }
        [weekday, month, day, time, year] if is_weekday(weekday) => {
            seconds(number(year, 4)?, month, number(day, 2)?, time)
        }
        _ => None,
    }
}

fn is_weekday(word: &str) -> bool {
    word.len() >= 3 && word.bytes().all(|b| b.is_ascii_alphabetic())
}

fn is_zone(word: &str) -> bool {
    word.eq_ignore_ascii_case("gmt")
}

fn number(word: &str, digits: usize) -> Option<u64> {
    (word.len() == digits && word.bytes().all(|b| b.is_ascii_digit())).then(|| word.parse().ok())?
}

fn seconds(year: u64, month: &str, day: u64, time: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let month = MONTHS.iter().position(|name| month.eq_ignore_ascii_case(name))? as u64 + 1;
    let mut parts = time.split(':').map(|part| number(part, 2));
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    // A second more is a leap second.
    let fits = parts.next().is_none() && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    (fits && year >= 1970).then_some(())?;
    // Years begin in March here, so that the leap day is the last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1;
    // From 1 March of the year 0 to 1 January 1970.
    Some((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn of(text: &str) -> Option<u64> {
        parse(text.as_bytes())
    }

    #[test]
    fn all_forms_of_a_date_are_the_same() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "SUN, 06 NOV 1994 08:49:37 gmt",
            "Mon, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(of(text), Some(784_111_777), "{text}");
        }
        for seconds in [0, 951_782_399, 951_782_400, 951_868_800, 1_709_164_800, 4_107_542_399, 253_402_300_799] {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            assert_eq!(of(&httpdate::fmt_http_date(time)), Some(seconds));
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "0",
            "-1",
            "",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "Thu, 18 Aug 2050 25:01:18 GMT",
            "Thu, 00 Aug 2050 02:01:18 GMT",
            "Thu, 18 Aug 1950 02:01:18 GMT",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
