use super::*;
use crate::ledger::claims;
use crate::libvirt::HypervisorError;
use crate::types::live_change::LiveChange;

const DOMAIN: &str = "<domain type='kvm'>\n  <name>db</name>\n  \
                      <uuid>8c1f6f0e-0000-4000-8000-000000000001</uuid>\n  <memory>1024</memory>\n  \
                      <vcpu>1</vcpu>\n</domain>\n";

/// libvirt beside a daemon that writes the definition `left` times, each right before a call.
struct Beside {
    root: HostFs,
    left: u32,
}

impl Beside {
    fn put(&self, text: &str) {
        std::fs::write(self.root.path(claims::path("db")), text).unwrap();
    }
}

impl Hypervisor for Beside {
    fn define(&mut self, xml: &str) -> Result<(), HypervisorError> {
        self.put(xml);
        Ok(())
    }

    fn redefine(&mut self, before: &str, xml: &str) -> Result<(), HypervisorError> {
        if self.left > 0 {
            self.left -= 1;
            self.put(&DOMAIN.replace("<memory>", &format!("<title>{}</title><memory>", self.left)));
        }
        let path = claims::path("db");
        if self.root.read(path).unwrap() != before {
            return Err(HypervisorError::Other("another".into()));
        }
        self.define(xml)
    }

    fn undefine(&mut self, _: &str) -> Result<(), HypervisorError> {
        Ok(())
    }

    fn rename(&mut self, _: &str, _: &str) -> Result<(), HypervisorError> {
        Ok(())
    }

    fn live(&mut self, _: &str, _: &LiveChange) -> Result<(), HypervisorError> {
        Ok(())
    }
}

#[test]
fn a_definition_that_changes_meanwhile_is_read_again() {
    for (left, done) in [(0, true), (1, true), (TRIES, true), (TRIES + 1, false)] {
        let folder = tempfile::tempdir().unwrap();
        let root = HostFs::new(folder.path());
        std::fs::create_dir_all(root.path(claims::FOLDER)).unwrap();
        let mut libvirt = Beside {
            root: root.clone(),
            left,
        };
        libvirt.put(DOMAIN);
        let read = || -> Result<Box<Change>, RevertError> {
            let definition = definitions::read(&root, "db", &Reading::default())?;
            let off = definition.file.text.replace("<memory>", "<!-- off --><memory>");
            Ok(Box::new(Change {
                definition,
                off,
                tuned: true,
            }))
        };
        let said = written(&root, &mut libvirt, read().unwrap(), || {
            Ok(Wanted::Change(read()?))
        });
        let text = root.read(claims::path("db")).unwrap();
        assert_eq!(said.is_ok(), done, "{left}: {said:?}");
        assert_eq!(text.contains("<!-- off -->"), done, "{left}: {text}");
        // The last version of the other program is what was reverted.
        assert_eq!(text.contains("<title>0</title>"), left > 0, "{left}: {text}");
    }
}
