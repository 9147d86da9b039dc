//! XML that keeps its bytes: a tree of elements that know where they stand in the text.

pub mod tree;

pub use tree::{Document, Element, ElementId, XmlError};
