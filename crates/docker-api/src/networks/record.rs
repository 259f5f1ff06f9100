//! What is kept of a network, and how it is shown.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use network::{Cidr, Ipv6};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::configuration::Configuration;

/// Options of bridges: what it is called on the host, and the largest packet of its links.
pub(super) const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
pub(super) const MTU: &str = "com.docker.network.driver.mtu";

/// How its containers are connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Driver {
    #[default]
    Bridge,
    Host,
    Null,
}

impl Driver {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
        }
    }
}

/// A network.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NetworkRecord {
    pub id: String,
    pub name: String,
    pub created: String,
    pub driver: Driver,
    /// Of bridges.
    pub range: Option<Cidr>,
    /// Whether the user chose the range.
    pub range_given: bool,
    /// `--ip-range`: where containers get their addresses from, if not from all of the range.
    pub address_range: Option<Cidr>,
    /// `--gateway`: another address than the first.
    pub own_gateway: Option<Ipv4Addr>,
    /// `--ipv4=false`: the range is the engine's own, by which it knows containers; none of them shows it.
    pub without_ipv4: bool,
    /// `--ipv6`: the range of IPv6.
    pub range6: Option<Cidr>,
    /// `--gateway`: another address of IPv6 than the first.
    pub own_gateway6: Option<Ipv6Addr>,
    /// `--aux-address`: addresses that others have, by name.
    pub reserved: BTreeMap<String, Ipv4Addr>,
    pub internal: bool,
    pub attachable: bool,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub ipam_options: BTreeMap<String, String>,
    /// `--config-only`: it is nothing but this.
    pub configuration: Option<Configuration>,
    /// `--config-from`: the name of the network whose configuration it has.
    pub config_from: String,
}

impl NetworkRecord {
    /// One of the three that are always there.
    pub fn is_predefined(&self) -> bool {
        matches!(self.name.as_str(), "bridge" | "host" | "none")
    }

    /// Whether containers find each other by name in it.
    pub fn has_names(&self) -> bool {
        self.driver == Driver::Bridge && !self.is_predefined()
    }

    /// Whether others are kept from ports of its containers that are not published.
    pub fn is_protected(&self) -> bool {
        let mode = self.options.get("com.docker.network.bridge.gateway_mode_ipv4");
        !mode.is_some_and(|mode| mode == "nat-unprotected" || mode == "routed")
    }

    /// Whether the host has no address of IPv4 on its bridge: its containers reach each other alone.
    pub fn is_alone(&self) -> bool {
        self.internal && (self.is_isolated("gateway_mode_ipv4") || self.is_on("com.docker.network.bridge.inhibit_ipv4"))
    }

    /// The same for IPv6.
    fn is_alone6(&self) -> bool {
        self.internal && self.is_isolated("gateway_mode_ipv6")
    }

    fn is_isolated(&self, mode: &str) -> bool {
        self.options.get(&format!("com.docker.network.bridge.{mode}")).is_some_and(|mode| mode == "isolated")
    }

    fn is_on(&self, option: &str) -> bool {
        self.options
            .get(option)
            .is_some_and(|value| matches!(value.as_str(), "true" | "True" | "TRUE" | "t" | "T" | "1"))
    }

    /// Whether its containers are kept from each other, too.
    pub fn is_apart(&self) -> bool {
        self.is_off("com.docker.network.bridge.enable_icc")
    }

    /// Whether its containers go out under their own addresses.
    pub fn is_unmasked(&self) -> bool {
        self.is_off("com.docker.network.bridge.enable_ip_masquerade")
    }

    fn is_off(&self, option: &str) -> bool {
        self.options
            .get(option)
            .is_some_and(|value| matches!(value.as_str(), "false" | "False" | "FALSE" | "f" | "F" | "0"))
    }

    /// The containers' way out, or an address that stands for one.
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        self.own_gateway.or_else(|| self.range.filter(|_| !self.is_alone())?.first_host4())
    }

    /// Its addresses of IPv6, if it has any.
    pub fn ipv6(&self) -> Option<Ipv6> {
        let range = self.range6?;
        let gateway = if self.is_alone6() { None } else { self.own_gateway6.or_else(|| range.nth6(1)) };
        Some(Ipv6 { range, gateway })
    }

    /// As `inspect` and `ls` show it, but for its containers.
    pub fn json(&self) -> Value {
        let mut value = self.plain_json();
        if let Some(Configuration { disable_ipv4, enable_ipv6, ipam, options, labels }) = &self.configuration {
            value["EnableIPv4"] = (!*disable_ipv4).into();
            value["EnableIPv6"] = (*enable_ipv6).into();
            value["IPAM"]["Config"] = json!(ipam.config);
            value["IPAM"]["Options"] = json!(ipam.options);
            value["Options"] = json!(options);
            value["Labels"] = json!(labels);
        }
        value
    }

    fn plain_json(&self) -> Value {
        let with = |range: Cidr, gateway: Option<String>| {
            let mut config = json!({"Subnet": range.to_string()});
            if let Some(gateway) = gateway {
                config["Gateway"] = gateway.into();
            }
            config
        };
        let six = self.ipv6().map(|ipv6| {
            let gateway = ipv6.gateway.or(self.own_gateway6);
            with(ipv6.range, gateway.map(|gateway| gateway.to_string()))
        });
        let config = match self.range {
            Some(_) if self.without_ipv4 => json!([six]),
            Some(range) => {
                let mut config = with(range, self.gateway().map(|gateway| gateway.to_string()));
                if let Some(part) = self.address_range {
                    config["IPRange"] = part.to_string().into();
                }
                if !self.reserved.is_empty() {
                    config["AuxiliaryAddresses"] = json!(self.reserved);
                }
                Value::from_iter([config].into_iter().chain(six))
            }
            None => Value::Null,
        };
        json!({
            "Name": self.name,
            "Id": self.id,
            "Created": self.created,
            "Scope": "local",
            "Driver": self.driver.as_str(),
            "EnableIPv4": !self.without_ipv4,
            "EnableIPv6": self.range6.is_some(),
            "IPAM": {
                "Driver": "default",
                "Options": if self.ipam_options.is_empty() { Value::Null } else { json!(self.ipam_options) },
                "Config": config,
            },
            "Internal": self.internal,
            "Attachable": self.attachable,
            "Ingress": false,
            "ConfigFrom": {"Network": self.config_from},
            "ConfigOnly": self.configuration.is_some(),
            "Containers": {},
            "Options": self.options,
            "Labels": self.labels,
        })
    }

    /// The attributes of events about it.
    pub fn event_attributes(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("name".into(), self.name.clone()), ("type".into(), self.driver.as_str().into())])
    }
}
