//! The numbers of fields, from `fields.txt`: one line a message, sorted by its name. `name=number` is a field,
//! with `*` behind it one that distinguishes absence from zero; `>message=number` is one whose fields stand
//! in the outer object in JSON.

/// One field.
pub(super) enum Field {
    /// By its name in JSON.
    Named {
        name: &'static str,
        /// Zero is a value, not absence.
        pointer: bool,
    },
    /// Another message whose fields belong to this object.
    Inline(&'static str),
}

static TABLE: &str = include_str!("fields.txt");

/// The fields of a message with their numbers.
pub(super) fn of(message: &str) -> Option<Vec<(u64, Field)>> {
    let line = find(message)?;
    let fields = line.split(' ').skip(1).filter_map(|field| {
        let (name, number) = field.split_once('=')?;
        let (number, pointer) = match number.strip_suffix('*') {
            Some(number) => (number, true),
            None => (number, false),
        };
        let field = match name.strip_prefix('>') {
            Some(inner) => Field::Inline(inner),
            None => Field::Named { name, pointer },
        };
        Some((number.parse().ok()?, field))
    });
    Some(fields.collect())
}

/// The message's line, by bisection of the text.
fn find(message: &str) -> Option<&'static str> {
    let (mut low, mut high) = (0, TABLE.len());
    while low < high {
        let middle = (low + high) / 2;
        let start = TABLE[..middle].rfind('\n').map_or(0, |at| at + 1);
        let end = TABLE[start..].find('\n').map_or(TABLE.len(), |at| start + at);
        let line = &TABLE[start..end];
        let name = line.split(' ').next().unwrap_or("");
        match name.cmp(message) {
            std::cmp::Ordering::Equal => return Some(line),
            std::cmp::Ordering::Less => low = end + 1,
            std::cmp::Ordering::Greater => high = start,
        }
    }
    None
}
