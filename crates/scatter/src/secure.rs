//! Leaves over TLS: a client for each of them, as its files say now.

use std::{collections::HashMap, path::PathBuf};

use http_ends::{Client, Identity, Names, Trust};
use serving::ConfigError;

use crate::config::{Config, LeafTls};

/// The clients of leaves that are asked over TLS, by the leaf's name.
#[derive(Clone, Default)]
pub struct Secured(HashMap<String, (LeafTls, Client)>);

impl Secured {
    /// Reads the files that a configuration names. Leaves whose TLS is as it was before go on with their connections.
    ///
    /// # Errors
    /// The field whose file cannot be used.
    pub fn new(config: &Config, names: &Names, before: Option<&Self>) -> Result<Self, ConfigError> {
        let mut all = HashMap::new();
        for (at, leaf) in config.leaves.iter().enumerate() {
            let (Some(tls), Some(name)) = (&leaf.tls, leaf.server_name()) else { continue };
            let known = before.and_then(|before| before.0.get(&leaf.name)).filter(|(known, _)| known == tls);
            let client = match known {
                Some((_, client)) => client.clone(),
                None => {
                    let trust = tls.authorities.clone().map_or(Trust::System, Trust::File);
                    let own = tls.certificate.clone().zip(tls.key.clone());
                    let own = own.map(|(certificate, key)| Identity { certificate, key });
                    let wrong = |error: http_ends::TrustError| {
                        ConfigError::field(format!("leaves[{at}].tls"), error.to_string())
                    };
                    let made = trust.configuration_of(own.as_ref()).map_err(wrong)?;
                    Client::of_service(names.clone(), made, name)
                }
            };
            all.insert(leaf.name.clone(), (tls.clone(), client));
        }
        Ok(Self(all))
    }

    /// The client of a leaf, if it is asked over TLS.
    #[must_use]
    pub fn client(&self, leaf: &str) -> Option<&Client> {
        self.0.get(leaf).map(|(_, client)| client)
    }
}

/// The files whose change makes new clients.
#[must_use]
pub fn files(config: &Config) -> Vec<PathBuf> {
    let all = config.leaves.iter().flat_map(|leaf| leaf.tls.iter()).flat_map(LeafTls::files);
    let mut files: Vec<PathBuf> = all.map(|(_, file)| file.clone()).collect();
    files.sort();
    files.dedup();
    files
}
