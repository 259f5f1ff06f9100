//! What extends or governs the API server: admission, custom resources, aggregated APIs, flow control, devices.

use serde_json::{Value, json};

use super::{
    access::{ensure, ensure_object, fill, fill_text, items_mut, object_at_mut, object_mut, set, text},
    prepare::{self, PLAIN, WITH_GENERATION, WITH_STATUS},
    webhook,
};
use crate::resource::{NameRule, Strategy};

/// The strategy of MutatingWebhookConfigurations.
pub const MUTATING_WEBHOOKS: Strategy = Strategy { default: default_mutating, ..VALIDATING_WEBHOOKS };

/// The strategy of ValidatingWebhookConfigurations.
pub const VALIDATING_WEBHOOKS: Strategy = Strategy {
    default: default_webhooks,
    validate: webhook::validate,
    validate_update: |new, _| webhook::validate(new),
    prepare_create: prepare::first_generation_only,
    prepare_update: |new, old| prepare::count_generation(new, old, &["webhooks"]),
    unconditional_update: false,
    ..PLAIN
};

/// The strategy of ValidatingAdmissionPolicies and MutatingAdmissionPolicies.
pub const ADMISSION_POLICY: Strategy =
    Strategy { default: default_admission_policy, unconditional_update: false, ..WITH_GENERATION };

/// The strategy of the bindings of admission policies.
pub const ADMISSION_POLICY_BINDING: Strategy = Strategy {
    default: default_admission_binding,
    prepare_create: prepare::first_generation_only,
    prepare_update: |new, old| prepare::count_generation(new, old, &["spec"]),
    unconditional_update: false,
    ..PLAIN
};

/// The strategy of CustomResourceDefinitions.
pub const CUSTOM_RESOURCE_DEFINITION: Strategy = Strategy {
    default: default_definition,
    prepare_create: create_definition,
    unconditional_update: false,
    ..WITH_GENERATION
};

/// The strategy of APIServices.
pub const API_SERVICE: Strategy =
    Strategy { default: default_api_service, name: NameRule::PathSegment, unconditional_update: false, ..WITH_STATUS };

/// The strategy of FlowSchemas.
pub const FLOW_SCHEMA: Strategy = Strategy { default: default_flow_schema, ..WITH_GENERATION };

/// The strategy of PriorityLevelConfigurations.
pub const PRIORITY_LEVEL: Strategy = Strategy { default: default_priority_level, ..WITH_GENERATION };

/// The strategy of ResourceClaims and their templates.
pub const RESOURCE_CLAIM: Strategy = Strategy { default: default_claim, ..WITH_STATUS };

/// The strategy of ResourceClaimTemplates.
pub const RESOURCE_CLAIM_TEMPLATE: Strategy = Strategy { default: default_claim_template, ..PLAIN };

/// The strategy of ResourceSlices.
pub const RESOURCE_SLICE: Strategy = Strategy {
    prepare_create: prepare::first_generation_only,
    prepare_update: |new, old| prepare::count_generation(new, old, &["spec"]),
    ..PLAIN
};

fn default_webhooks(object: &mut Value) {
    for webhook in items_mut(object, "webhooks") {
        default_webhook(webhook);
    }
}

fn default_mutating(object: &mut Value) {
    for webhook in items_mut(object, "webhooks") {
        default_webhook(webhook);
        fill(webhook, "reinvocationPolicy", "Never");
    }
}

fn default_webhook(webhook: &mut Value) {
    fill(webhook, "failurePolicy", "Fail");
    default_match(webhook);
    fill(webhook, "timeoutSeconds", 10);
    for rule in items_mut(webhook, "rules") {
        fill(rule, "scope", "*");
    }
    if let Some(service) = object_at_mut(webhook, &["clientConfig", "service"]) {
        fill(service, "port", 443);
    }
}

fn default_match(object: &mut Value) {
    fill(object, "matchPolicy", "Equivalent");
    ensure_object(object, "namespaceSelector");
    ensure_object(object, "objectSelector");
}

fn default_match_resources(resources: &mut Value) {
    default_match(resources);
    for list in ["resourceRules", "excludeResourceRules"] {
        for rule in items_mut(resources, list) {
            fill(rule, "scope", "*");
        }
    }
}

fn default_admission_policy(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    fill(spec, "failurePolicy", "Fail");
    if let Some(resources) = object_mut(spec, "matchConstraints") {
        default_match_resources(resources);
    }
}

fn default_admission_binding(object: &mut Value) {
    if let Some(resources) = object_at_mut(object, &["spec", "matchResources"]) {
        default_match_resources(resources);
    }
}

fn default_definition(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    fill_text(spec, "scope", "Namespaced");
    let names = ensure_object(spec, "names");
    let kind = text(names, "kind").to_owned();
    if !kind.is_empty() {
        fill_text(names, "singular", &kind.to_lowercase());
        fill_text(names, "listKind", &format!("{kind}List"));
    }
    let conversion = ensure_object(spec, "conversion");
    fill_text(conversion, "strategy", "None");
    if let Some(service) = object_at_mut(conversion, &["webhook", "clientConfig", "service"]) {
        fill(service, "port", 443);
    }
}

/// The versions that ever stored objects are known from the start.
fn create_definition(object: &mut Value) {
    prepare::first_generation(object);
    let storage: Vec<Value> = super::access::list_at(object, &["spec", "versions"])
        .iter()
        .filter(|version| super::access::flag(version, "storage"))
        .map(|version| json!(text(version, "name")))
        .collect();
    if let Some(status) = object_mut(object, "status") {
        set(status, "storedVersions", storage);
    }
}

fn default_api_service(object: &mut Value) {
    if let Some(service) = object_at_mut(object, &["spec", "service"]) {
        fill(service, "port", 443);
    }
}

fn default_flow_schema(object: &mut Value) {
    super::access::fill_number(ensure_object(object, "spec"), "matchingPrecedence", 1000);
}

fn default_priority_level(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    match text(spec, "type") {
        "Limited" => {
            let limited = ensure_object(spec, "limited");
            fill(limited, "nominalConcurrencyShares", 30);
            fill(limited, "lendablePercent", 0);
            if let Some(queuing) = object_at_mut(limited, &["limitResponse", "queuing"]) {
                super::access::fill_number(queuing, "queues", 64);
                super::access::fill_number(queuing, "handSize", 8);
                super::access::fill_number(queuing, "queueLengthLimit", 50);
            }
        }
        "Exempt" => {
            let exempt = ensure(spec, "exempt", || json!({}));
            fill(exempt, "nominalConcurrencyShares", 0);
            fill(exempt, "lendablePercent", 0);
        }
        _ => {}
    }
}

fn default_claim(object: &mut Value) {
    if let Some(spec) = object_mut(object, "spec") {
        default_device_requests(spec);
    }
}

fn default_claim_template(object: &mut Value) {
    if let Some(spec) = object_at_mut(object, &["spec", "spec"]) {
        default_device_requests(spec);
    }
}

fn default_device_requests(spec: &mut Value) {
    let Some(devices) = object_mut(spec, "devices") else { return };
    for request in items_mut(devices, "requests") {
        if let Some(exactly) = object_mut(request, "exactly") {
            default_device_request(exactly);
        }
        for sub in items_mut(request, "firstAvailable") {
            default_device_request(sub);
        }
    }
}

fn default_device_request(request: &mut Value) {
    fill_text(request, "allocationMode", "ExactCount");
    if text(request, "allocationMode") == "ExactCount" {
        super::access::fill_number(request, "count", 1);
    }
}
