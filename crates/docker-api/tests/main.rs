//! The Docker API, driven by the stock client. Needs root.
