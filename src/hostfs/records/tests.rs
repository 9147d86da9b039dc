use super::*;

const UUID: &str = "8c1f6f0e-0000-4000-8000-000000000001";
const OTHER: &str = "8c1f6f0e-0000-4000-8000-000000000002";

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Sample {
    version: u32,
    uuid: String,
}

impl Record for Sample {
    const FOLDER: &'static str = "/run/virtfit/samples";
    const MODE: u32 = 0o755;
    const NOT_ONE: &'static str = "not a sample: ";
    const FORMAT: Option<(&'static str, u32)> = Some(("sample format", 1));

    fn uuid(&self) -> Option<&str> {
        Some(&self.uuid)
    }
}

fn sample(uuid: &str) -> Sample {
    let (version, uuid) = (1, uuid.to_string());
    Sample { version, uuid }
}

#[test]
fn a_record_comes_back_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let folder: RecordFolder<Sample> = RecordFolder::new(&HostFs::new(dir.path()));
    assert_eq!(folder.read(UUID).unwrap(), None);
    assert_eq!(folder.all().count(), 0);
    assert!(!folder.remove(UUID).unwrap() && !folder.is_there(UUID));
    folder.write(&UUID.to_uppercase(), &sample(UUID), None).unwrap();
    assert_eq!(folder.read(UUID).unwrap(), Some(sample(UUID)));
    let text = std::fs::read_to_string(dir.path().join(format!("run/virtfit/samples/{UUID}.json")));
    assert_eq!(text.unwrap(), format!("{{\"version\":1,\"uuid\":\"{UUID}\"}}\n"));
    assert!(folder.is_there(UUID) && folder.remove(UUID).unwrap());
    let late = folder.write(UUID, &sample(UUID), Some(Instant::now()));
    assert!(matches!(late, Err(RecordError::Late(_))), "{late:?}");
    for bad in ["", "../x", "a.json", "x"] {
        let written = folder.write(bad, &sample(bad), None);
        assert!(matches!(written, Err(RecordError::Uuid(_))), "{bad}");
        assert!(folder.remove(bad).is_err() && folder.read(bad).is_err());
    }
    assert_eq!(folder.all().count(), 0);
}

#[test]
fn a_record_counts_only_in_its_guests_file() {
    let good = text_of(&sample(UUID)).unwrap();
    for (stem, text, expected) in [
        (UUID, good.as_str(), None),
        (
            OTHER,
            good.as_str(),
            Some("the record of another guest, 8c1f6f0e"),
        ),
        ("old-copy", good.as_str(), Some("the record of another guest")),
        (UUID, "{", Some("not a sample: EOF")),
        (
            UUID,
            "{\"version\":2}",
            Some("sample format 2, but this virtfit knows only 1"),
        ),
        (UUID, "{\"version\":1}", Some("not a sample: missing field")),
    ] {
        let error = parse::<Sample>(stem, text).err().map(|error| error.to_string());
        let fits = |expected: &str| error.as_ref().is_some_and(|error| error.starts_with(expected));
        assert!(expected.map_or(error.is_none(), fits), "{stem} {text}: {error:?}");
    }
}
