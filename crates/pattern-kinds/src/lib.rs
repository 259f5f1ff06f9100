//! The kinds of `patterns.hythe.dev/v1` and of the core of the Gateway API as Rust types.
//!
//! They are written down once, here: the catalogue makes its schemas (and so OpenAPI, validation, defaults and the
//! CustomResourceDefinitions for other clusters) of them at build time, the controllers read objects with them.
//! Defaults, enumerations and limits stand as schema attributes beside the fields.

pub mod gateway;
pub mod patterns;

/// Types of the API, written as tables: `name?: T` is a field that may be left out, `= [rules]` what its schema says
/// beyond its type (default, enumeration, limits).
macro_rules! types {
    ($($(#[$meta:meta])* pub struct $name:ident { $($fields:tt)* })*) => {
        $(types!(@ [$(#[$meta])* $name] [] $($fields)*);)*
    };
    (@ $of:tt [$($done:tt)*] $(#[$meta:meta])* pub $name:ident ?: $type:ty $(= [$($rules:tt)*])?, $($rest:tt)*) => {
        types!(@ $of [
            $($done)*
            $(#[$meta])*
            #[serde(default, skip_serializing_if = "Option::is_none")]
            $(#[cfg_attr(feature = "schemars", schemars(extend($($rules)*)))])?
            pub $name: Option<$type>,
        ] $($rest)*);
    };
    (@ $of:tt [$($done:tt)*] $(#[$meta:meta])* pub $name:ident : $type:ty $(= [$($rules:tt)*])?, $($rest:tt)*) => {
        types!(@ $of [
            $($done)*
            $(#[$meta])*
            $(#[cfg_attr(feature = "schemars", schemars(extend($($rules)*)))])?
            pub $name: $type,
        ] $($rest)*);
    };
    (@ [$(#[$meta:meta])* $name:ident] [$($fields:tt)*]) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
        #[serde(rename_all = "camelCase")]
        pub struct $name { $($fields)* }
    };
}

/// Makes a type a kind of the API.
macro_rules! kind {
    ($name:ident, $group:literal, $version:literal, $plural:literal, $scope:ident) => {
        impl k8s_openapi::Resource for $name {
            const API_VERSION: &'static str = concat!($group, "/", $version);
            const GROUP: &'static str = $group;
            const KIND: &'static str = stringify!($name);
            const VERSION: &'static str = $version;
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = k8s_openapi::$scope;
        }

        impl k8s_openapi::Metadata for $name {
            type Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

            fn metadata(&self) -> &Self::Ty {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut Self::Ty {
                &mut self.metadata
            }
        }
    };
}

use {kind, types};
