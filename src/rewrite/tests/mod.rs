//! Properties that hold for every domain and every set of settings, and particular cases beside
//! them.

mod edited;
mod properties;
mod samples;
mod written;
