use proptest::prelude::*;

use super::*;

fn question(text: &[u8]) -> io::Result<Question> {
    Question::read(&mut &text[..])
}

fn reply(text: &[u8]) -> io::Result<Reply> {
    Reply::read(&mut &text[..])
}

fn written(question: &Question) -> Vec<u8> {
    let mut bytes = Vec::new();
    question.write(&mut bytes).unwrap();
    bytes
}

#[test]
fn it_looks_as_the_comment_says() {
    let asked = Question {
        kind: Kind::Hook,
        words: vec![b"db".to_vec(), b"".to_vec(), b"-".to_vec()],
        body: b"<domain/>".to_vec(),
    };
    assert_eq!(written(&asked), b"virtfit 1 hook 6 9\ndb\0\0-\0<domain/>");
    assert_eq!(question(&written(&asked)).unwrap(), asked);
    let said = Reply {
        exit: 3,
        stdout: b"o".to_vec(),
        stderr: b"no\n".to_vec(),
    };
    let mut bytes = Vec::new();
    said.write(&mut bytes).unwrap();
    assert_eq!(bytes, b"virtfit 1 3 1 3\nono\n");
    assert_eq!(reply(&bytes).unwrap(), said);
}

#[test]
fn what_is_no_question_is_an_error() {
    for bad in [
        "",
        "\n",
        "GET / HTTP/1.1\r\n\r\n",
        "virtfit 2 hook 0 0\n",
        "virtfit 1 hook 0\n",
        "virtfit 1 hook 0 0",
        "virtfit 1 hook 0 0 0\n",
        "virtfit 1 look 0 0\n",
        "virtfit 1 hook -1 0\n",
        "virtfit 1 hook +0 0\n",
        "virtfit 1 hook  0 0\n",
        "virtfit 1 hook 0 99999999999999999999999\n",
        "virtfit 1 hook 65537 0\n",
        "virtfit 1 hook 0 16777217\n",
        "virtfit 1 hook 2 0\nab",
        "virtfit 1 hook 2 0\na",
        "virtfit 1 hook 0 5\nabcd",
    ] {
        assert!(question(bad.as_bytes()).is_err(), "{bad:?}");
    }
    let long = format!("virtfit 1 hook {}", "0".repeat(1 << 20));
    assert!(question(long.as_bytes()).is_err());
    assert!(question(b"virtfit 1 ask 0 0\n").unwrap().words.is_empty());
}

#[test]
fn what_is_no_answer_is_an_error() {
    for bad in [
        "",
        "virtfit 1 256 0 0\n",
        "virtfit 1 0 1 0\n",
        "virtfit 1 0 0\n",
        "virtfit 1 hook 0 0\n",
    ] {
        assert!(reply(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

/// Reader that records the length of each read.
struct Greedy(usize);

impl Read for Greedy {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0 = self.0.max(into.len());
        Ok(0)
    }
}

#[test]
fn an_announced_length_allocates_nothing() {
    let mut greedy = Greedy(0);
    let header = format!("virtfit 1 0 {MAX_BODY} 0\n");
    let mut stream = io::BufReader::with_capacity(64, header.as_bytes().chain(&mut greedy));
    assert_eq!(
        Reply::read(&mut stream).unwrap_err().kind(),
        ErrorKind::UnexpectedEof
    );
    assert!(greedy.0 <= 64 << 10, "{} bytes asked for at once", greedy.0);
}

#[test]
fn a_silent_peer_costs_no_more_than_the_time_given() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let started = Instant::now();
    let mut timed = Timed::new(&ours, started + Duration::from_millis(30));
    assert_eq!(timed.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(started.elapsed() >= Duration::from_millis(29));
    assert_eq!(timed.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    let full = vec![0; 8 << 20];
    let mut timed = Timed::new(&ours, Instant::now() + Duration::from_millis(30));
    assert_eq!(timed.write_all(&full).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(started.elapsed() < Duration::from_secs(5));
}

fn a_question() -> impl Strategy<Value = Question> {
    let word = proptest::collection::vec(1u8..=255, 0..20);
    let words = proptest::collection::vec(word, 0..6);
    let body = proptest::collection::vec(any::<u8>(), 0..300);
    (any::<bool>(), words, body).prop_map(|(hook, words, body)| Question {
        kind: if hook { Kind::Hook } else { Kind::Ask },
        words,
        body,
    })
}

proptest! {
    #[test]
    fn a_question_comes_back_and_no_piece_of_it_is_one(asked in a_question()) {
        let bytes = written(&asked);
        prop_assert_eq!(question(&bytes).unwrap(), asked);
        for end in 0..bytes.len() {
            prop_assert!(question(&bytes[..end]).is_err(), "cut at {}", end);
        }
    }

    #[test]
    fn an_answer_comes_back_and_no_piece_of_it_is_one(
        exit: u8,
        stdout in proptest::collection::vec(any::<u8>(), 0..200),
        stderr in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let said = Reply { exit, stdout, stderr };
        let mut bytes = Vec::new();
        said.write(&mut bytes).unwrap();
        prop_assert_eq!(&reply(&bytes).unwrap(), &said);
        for end in 0..bytes.len() {
            prop_assert!(reply(&bytes[..end]).is_err(), "cut at {}", end);
        }
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400), text in "virtfit 1 (hook|ask|[0-9]{1,4}) [0-9+-]{0,9} [0-9]{0,9}\n?.{0,40}") {
        for bytes in [&bytes, text.as_bytes()] {
            let _ = question(bytes);
            let _ = reply(bytes);
        }
    }
}
