//! The configuration: twemproxy's `nutcracker.yaml`, and a few keys more.

mod address;
mod lenient;
mod pool;
mod validate;

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serving::ConfigError;

pub use address::{Address, Listen, Malformed, Server};
pub use pool::{Discovery, Pool, Protocol, Reads, Writes};

/// All pools by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Config {
    /// The pools; twemproxy sorts them by name too.
    pub pools: BTreeMap<String, Pool>,
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// Names the line (where there is one), the pool and the key that is wrong.
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        let config: Config = serving::from_yaml(text)?;
        validate::check(&config).map_err(|error| error.located_in(text))?;
        Ok(config)
    }

    /// The file that [`Config::parse`] reads back as this configuration.
    ///
    /// # Errors
    /// Only when a name cannot be written as YAML.
    pub fn to_yaml(&self) -> Result<String, serde_yaml_ng::Error> {
        serde_yaml_ng::to_string(self)
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Config, D::Error> {
        struct Pools;
        impl<'de> Visitor<'de> for Pools {
            type Value = Config;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("pools by name, each with `listen` and `servers`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Config, A::Error> {
                let mut pools = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    let pool = map.next_value()?;
                    if pools.insert(name.clone(), pool).is_some() {
                        return Err(A::Error::custom(format!("{name}: two pools have this name")));
                    }
                }
                Ok(Config { pools })
            }
        }
        deserializer.deserialize_map(Pools)
    }
}

#[cfg(test)]
mod tests;
