//! What has to hold for every domain and every set of settings, and the particular cases beside
//! them.

mod edited;
mod properties;
mod samples;
mod written;
