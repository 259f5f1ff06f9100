//! Which leaf is asked what. Pure.

use http::{Uri, uri::PathAndQuery};

use crate::config::{Route, Spread};

/// One question to one leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The leaf's number.
    pub leaf: usize,
    /// Path and query for the leaf.
    pub path: PathAndQuery,
    /// The part of the request that this question carries, where it was taken apart.
    pub term: Option<String>,
}

/// A request that cannot be spread.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The query lacks the parameter that would be taken apart.
    #[error("the query has no parameter {0:?}")]
    NoParameter(String),
    /// More parts than anyone means.
    #[error("the query has {0} terms, at most {MOST_TERMS} are taken")]
    TooManyTerms(usize),
    /// The leaf's path would be no path.
    #[error("the leaf's path would not be legal")]
    Path,
}

/// The most parts that one request is taken apart into.
const MOST_TERMS: usize = 64;

/// The questions of a request; `turn` says which leaf comes first where any will do.
///
/// # Errors
/// When the request does not fit the route.
pub fn questions(route: &Route, uri: &Uri, leaves: usize, turn: usize) -> Result<Vec<Question>, PlanError> {
    let rest = uri.path().strip_prefix(route.path.as_str()).unwrap_or_default();
    let path = route.leaf_path.as_ref().map_or_else(|| uri.path().to_owned(), |leaf| format!("{leaf}{rest}"));
    match &route.spread {
        Spread::All => {
            let path = with_query(&path, uri.query().unwrap_or_default())?;
            Ok((0..leaves).map(|leaf| Question { leaf, path: path.clone(), term: None }).collect())
        }
        Spread::Terms { parameter, separator } => {
            let pairs: Vec<(String, String)> =
                form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
            let whole = pairs.iter().find(|(name, _)| name == parameter).map(|(_, value)| value);
            let whole = whole.ok_or_else(|| PlanError::NoParameter(parameter.clone()))?;
            let mut terms: Vec<&str> = Vec::new();
            for term in whole.split(separator.as_str()).filter(|term| !term.is_empty()) {
                if !terms.contains(&term) {
                    terms.push(term);
                }
            }
            if terms.is_empty() {
                return Err(PlanError::NoParameter(parameter.clone()));
            }
            if terms.len() > MOST_TERMS {
                return Err(PlanError::TooManyTerms(terms.len()));
            }
            terms
                .iter()
                .enumerate()
                .map(|(at, term)| {
                    let mut query = form_urlencoded::Serializer::new(String::new());
                    for (name, value) in &pairs {
                        query.append_pair(name, if name == parameter { term } else { value });
                    }
                    let path = with_query(&path, &query.finish())?;
                    Ok(Question { leaf: (turn % leaves + at) % leaves, path, term: Some((*term).to_owned()) })
                })
                .collect()
        }
    }
}

fn with_query(path: &str, query: &str) -> Result<PathAndQuery, PlanError> {
    let text = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    text.parse().map_err(|_| PlanError::Path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Merge;

    fn route(spread: Spread, leaf_path: Option<&str>) -> Route {
        Route { path: "/api/v1/search".into(), leaf_path: leaf_path.map(Into::into), spread, merge: Merge::default() }
    }

    #[test]
    fn the_whole_query_goes_to_every_shard() {
        let asked = questions(&route(Spread::All, Some("/find")), &"/api/v1/search/x?q=a%20b".parse().unwrap(), 3, 7);
        let asked = asked.unwrap();
        assert_eq!(asked.iter().map(|question| question.leaf).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(asked.iter().all(|question| question.path == "/find/x?q=a%20b"));
    }

    #[test]
    fn terms_are_dealt_out_in_turn_each_once() {
        let terms = Spread::Terms { parameter: "q".into(), separator: " ".into() };
        let uri = "/api/v1/search?q=cat+dog+cat++bird%26x&lang=en".parse().unwrap();
        let asked = questions(&route(terms.clone(), None), &uri, 2, usize::MAX).unwrap();
        let told: Vec<(usize, &str)> = asked.iter().map(|question| (question.leaf, question.path.as_str())).collect();
        assert_eq!(
            told,
            [
                (1, "/api/v1/search?q=cat&lang=en"),
                (0, "/api/v1/search?q=dog&lang=en"),
                (1, "/api/v1/search?q=bird%26x&lang=en")
            ]
        );
        let none = questions(&route(terms.clone(), None), &"/api/v1/search?q=+".parse().unwrap(), 2, 0);
        assert_eq!(none, Err(PlanError::NoParameter("q".into())));
        let many = format!("/api/v1/search?q={}", (0..65).map(|n| n.to_string()).collect::<Vec<_>>().join("+"));
        assert_eq!(questions(&route(terms, None), &many.parse().unwrap(), 2, 0), Err(PlanError::TooManyTerms(65)));
    }
}
