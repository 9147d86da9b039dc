use super::*;
use crate::types::cpulist;
use crate::types::ids::VcpuId;

#[test]
fn requests_and_answers_are_lines_of_json() {
    let request = Request::Live {
        uuid: "u".into(),
        change: LiveChange::PinVcpu(VcpuId(3), cpulist::parse("1,4-5").unwrap()),
    };
    let text = serde_json::to_string(&request).unwrap();
    assert_eq!(
        text,
        r#"{"call":"live","uuid":"u","change":{"pin-vcpu":[3,[1,4,5]]}}"#
    );
    let input = format!("{text}\n\n{{\"call\":\"define\"}}\n{{\"call\":\"close\"}}\n");
    let mut output = Vec::new();
    let mut seen = Vec::new();
    serve(input.as_bytes(), &mut output, |request| {
        seen.push(request);
        Err(HypervisorError::Said("no".into())).into()
    })
    .unwrap();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen.first(), Some(&request));
    assert_eq!(
        String::from_utf8(output).unwrap(),
        "{\"said\":\"no\"}\n{\"said\":\"not a request: missing field `xml`\"}\n{\"said\":\"no\"}\n"
    );
}

#[test]
fn a_child_that_is_no_virtfitd_is_gone() {
    for program in ["/nonexistent", "/bin/false", "/bin/cat"] {
        let mut child = ChildHypervisor::with_program(Path::new(program), &HostFs::none(), None);
        for _ in 0..2 {
            let got = child.define("<domain/>");
            assert!(matches!(got, Err(HypervisorError::Gone(_))), "{program}: {got:?}");
        }
    }
}
