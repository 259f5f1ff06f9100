//! What the walk notices, and how it names the place.

use crate::{
    schema::{Field, Shape, Type},
    status::quoted,
};

/// What was noticed on the way.
#[derive(Default)]
pub struct Notes {
    /// The first value of the wrong type, in upstream's words.
    pub fault: Option<String>,
    /// The same fault as upstream's converter of untyped objects words it, where that differs.
    pub conversion: Option<String>,
    /// Unknown and duplicate fields.
    pub issues: Vec<String>,
    /// Zero values stay, even those that Go does not write.
    pub keeps_zeros: bool,
    /// The fault is in `apiVersion` or `kind`, or the whole is no object.
    in_type: bool,
}

/// Upstream stops counting there.
const MOST_ISSUES: usize = 100;

impl Notes {
    /// For a walk that leaves zero values in.
    pub fn keeping_zeros() -> Self {
        Self { keeps_zeros: true, ..Self::default() }
    }

    /// The fault if it makes the type of the object unreadable.
    pub fn unreadable_type(&self) -> Option<String> {
        let fault = self.fault.as_ref().filter(|_| self.in_type)?;
        Some(format!("couldn't get version/kind; json parse error: {fault}"))
    }

    /// An unknown or a duplicate field.
    pub fn issue(&mut self, what: &str, path: &Path, field: &str) {
        if self.issues.len() < MOST_ISSUES {
            let mut full = path.strict();
            if !full.is_empty() {
                full.push('.');
            }
            full.push_str(field);
            let issue = format!("{what} field {}", quoted(&full));
            if !self.issues.contains(&issue) {
                self.issues.push(issue);
            }
        }
    }

    /// The whole is no object.
    pub fn fault_of_root(&mut self, fault: String) {
        self.in_type |= self.fault.is_none();
        self.fault(|| fault);
    }

    /// A value that its type's own reader refuses.
    pub fn fault(&mut self, fault: impl FnOnce() -> String) {
        if self.fault.is_none() {
            self.fault = Some(fault());
        }
    }

    /// A value of another type than `shape`.
    pub fn mismatch(&mut self, found: &str, path: &Path, shape: &Shape) {
        if self.fault.is_none() {
            self.fault = Some(path.mismatch(found, &go_type(shape)));
            self.conversion = conversion(found, shape);
            self.in_type = path.is_type_of_root();
        }
    }
}

/// What upstream's converter says of a value of kind `found` where `shape` should be.
fn conversion(found: &str, shape: &Shape) -> Option<String> {
    let kind = match found.split_once(' ') {
        Some((_, number)) if number.contains(['.', 'e', 'E']) => "float64",
        Some(_) => "int64",
        None => match found {
            "object" => "map",
            "array" => "slice",
            "number" => "int64",
            other => other,
        },
    };
    Some(match shape {
        Shape::Object { .. } => format!("cannot restore struct from: {kind}"),
        Shape::List { .. } => format!("cannot restore slice from {kind}"),
        Shape::Map { .. } => format!("cannot restore map from {kind}"),
        Shape::String if kind == "int64" => "cannot convert int64 to string".into(),
        Shape::Int32 | Shape::Int64 if kind == "float64" => format!("cannot convert float64 to {}", go_type(shape)),
        Shape::Int32 | Shape::Int64 if kind == "int64" => return None,
        Shape::String | Shape::Int32 | Shape::Int64 | Shape::Boolean => {
            format!("unrecognized type: {}", go_type(shape))
        }
        _ => return None,
    })
}

/// The way from the root to a value, on the stack of the walk.
pub enum Path<'a> {
    Root(&'static Type),
    Field(&'a Path<'a>, &'static Type, &'static Field),
    Key(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl Path<'_> {
    /// With map keys and indices: `spec.containers[0].env`.
    fn strict(&self) -> String {
        match self {
            Path::Root(_) => String::new(),
            Path::Field(parent, _, Field { name, .. }) | Path::Key(parent, name) => {
                let mut path = parent.strict();
                if !path.is_empty() {
                    path.push('.');
                }
                path + name
            }
            Path::Item(parent, index) => format!("{}[{index}]", parent.strict()),
        }
    }

    /// Fields alone, with the struct that holds the last one: `EnvVar.spec.containers.env.value`.
    fn go_field(&self) -> Option<(&'static Type, String)> {
        match self {
            Path::Root(_) => None,
            Path::Key(parent, _) | Path::Item(parent, _) => parent.go_field(),
            Path::Field(parent, owner, field) => {
                let path = match parent.go_field() {
                    Some((_, path)) => path + "." + field.name,
                    None => field.name.into(),
                };
                Some((owner, path))
            }
        }
    }

    /// In upstream's words.
    pub fn mismatch(&self, found: &str, wanted: &str) -> String {
        match self.go_field() {
            Some(_) if self.is_type_of_root() => {
                format!("json: cannot unmarshal {found} into Go struct field .{} of type {wanted}", self.strict())
            }
            Some((owner, path)) => {
                let owner = owner.name.rsplit('.').next().unwrap_or_default();
                format!("json: cannot unmarshal {found} into Go struct field {owner}.{path} of type {wanted}")
            }
            None => format!("json: cannot unmarshal {found} into Go value of type {wanted}"),
        }
    }

    fn is_type_of_root(&self) -> bool {
        match self {
            Path::Root(_) => true,
            Path::Field(Path::Root(_), _, field) => matches!(field.name, "apiVersion" | "kind"),
            _ => false,
        }
    }
}

/// The name of the type as Go would print it.
fn go_type(shape: &Shape) -> String {
    match shape {
        Shape::Boolean => "bool".into(),
        Shape::Int32 => "int32".into(),
        Shape::Int64 => "int64".into(),
        Shape::Number => "float64".into(),
        Shape::String | Shape::Time | Shape::MicroTime => "string".into(),
        Shape::Bytes => "[]uint8".into(),
        Shape::IntOrString => "intstr.IntOrString".into(),
        Shape::Quantity => "resource.Quantity".into(),
        Shape::Any => "map[string]interface {}".into(),
        Shape::Object { of, .. } => struct_type(of),
        Shape::List { of, .. } => format!("[]{}", go_type(of)),
        Shape::Map { of, .. } => format!("map[string]{}", go_type(of)),
    }
}

/// `io.k8s.api.core.v1.PodSpec` is `v1.PodSpec`.
pub fn struct_type(of: &Type) -> String {
    let mut parts = of.name.rsplit('.');
    let name = parts.next().unwrap_or_default();
    format!("{}.{name}", parts.next().unwrap_or_default())
}
