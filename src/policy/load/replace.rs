//! Reads a policy file in the place of another, before it is saved there.

use std::path::Path;

use crate::hostfs::HostFs;
use crate::policy::load::{DROP_IN_DIR, Files, MAIN_FILE, PolicyFile, State, VENDOR_DIR};
use crate::policy::merge::Tier;

/// Error about a path at which no policy file is read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}: no place of a policy file: {MAIN_FILE}, or a name that ends in .toml in {DROP_IN_DIR}")]
pub(crate) struct NoPlace(String);

impl Files {
    /// Reads the policy files of a host, with another file in place of the one at `place`, which
    /// need not exist. `file` is a path as of [`Files::named`].
    ///
    /// # Errors
    /// `place` is no path of a policy file.
    pub(crate) fn with(root: &HostFs, file: &Path, place: &Path) -> Result<Self, NoPlace> {
        let no_place = || NoPlace(place.display().to_string());
        let folder = place.parent().and_then(Path::to_str).ok_or_else(no_place)?;
        let name = place
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(no_place)?;
        let is_toml = name.ends_with(".toml") && !name.starts_with('.');
        let tier = match folder {
            _ if place == Path::new(MAIN_FILE) => Tier::Main,
            DROP_IN_DIR if is_toml => Tier::DropIn,
            _ => return Err(no_place()),
        };
        let path = format!("{folder}/{name}");
        let mut out = Self::of(root);
        let mut one = Self::named(&[file]);
        out.files.retain(|file| file.path != path);
        // A problem with the text that is replaced is mended by the new one.
        out.problems.retain(|problem| problem.path != path);
        for mut new in one.files.drain(..) {
            new.tier = tier;
            if tier == Tier::DropIn {
                let vendors = format!("{VENDOR_DIR}/{name}");
                let masked = out.files.iter_mut().filter(|file| file.path == vendors);
                masked.for_each(|file| file.state = State::Masked(new.path.clone()));
            }
            let after = |file: &&PolicyFile| (file.tier, file.path.as_str()) > (tier, path.as_str());
            let at = out.files.iter().position(|file| after(&file));
            out.files.insert(at.unwrap_or(out.files.len()), new);
        }
        out.warnings.extend(one.warnings);
        Ok(out)
    }
}
