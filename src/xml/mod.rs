//! XML that keeps its bytes: a tree of elements that know their positions in the text.

mod encoding;
pub(crate) mod error;
mod read;
mod text;
pub mod tree;

pub(crate) use error::XmlError;
pub use tree::{Document, Element, ElementId};
