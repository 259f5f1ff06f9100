//! Controllers of the pattern resources, on Hythe and on any upstream Kubernetes.
