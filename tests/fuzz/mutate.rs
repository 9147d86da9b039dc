//! Mutations: inputs that are almost right, made of pieces of good ones that are cut, doubled,
//! exchanged, nested and sprinkled with keywords.

/// Small generator of random numbers (xorshift64*): equal seeds give equal inputs.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number less than `end`; 0 where `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        match end {
            0 => 0,
            end => (self.next() >> 11) as usize % end,
        }
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }
}

/// Largest size of an input: code that is slow on 64 KB is slow.
const LARGEST: usize = 64 * 1024;

/// Limits of every type of number and of libvirt's ranges, and one beyond each.
const NUMBERS: [&str; 38] = [
    "0",
    "1",
    "-1",
    "2",
    "63",
    "64",
    "65",
    "127",
    "128",
    "-128",
    "255",
    "256",
    "4095",
    "16383",
    "16384",
    "32767",
    "32768",
    "-32768",
    "65535",
    "65536",
    "199999",
    "200001",
    "2147483647",
    "2147483648",
    "-2147483648",
    "4294967295",
    "4294967296",
    "9007199254740991",
    "9007199254740992",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551614",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211455",
    "340282366920938463463374607431768211456",
    "00000000000000000000000000000000000000001",
];

/// Makes an input from the known ones.
pub fn mutate(random: &mut Random, corpus: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = random.pick(corpus).cloned().unwrap_or_default();
    for _ in 0..=random.below(5) {
        step(random, &mut input, corpus, words);
        input.truncate(LARGEST);
    }
    input
}

fn step(random: &mut Random, input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&str]) {
    let at = random.below(input.len() + 1);
    let piece = piece(random, input);
    match random.below(16) {
        0 if !piece.is_empty() => input[piece.start] ^= 1 << random.below(8),
        1 if !piece.is_empty() => input[piece.start] = random.below(256) as u8,
        2 => drop(input.drain(piece)),
        3 => {
            let copy = input[piece].to_vec();
            input.splice(at..at, copy);
        }
        4 => {
            let copy = input[piece.clone()].to_vec();
            let times = 1 + random.below(300).min(2048 / copy.len().max(1));
            let many: Vec<u8> = std::iter::repeat_n(copy, times).flatten().collect();
            input.splice(piece, many);
        }
        5 => {
            let other = random.pick(corpus).cloned().unwrap_or_default();
            let part = self::piece(random, &other);
            input.splice(piece, other[part].iter().copied());
        }
        6 => {
            // The beginning of one, the end of another.
            let other = random.pick(corpus).cloned().unwrap_or_default();
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        7 | 8 => {
            let word = random.pick(words).copied().unwrap_or_default();
            input.splice(at..at, word.bytes());
        }
        9 => {
            let word = random.pick(words).copied().unwrap_or_default();
            input.splice(piece, word.bytes());
        }
        10 | 11 => number(random, input),
        12 => tag(random, input),
        13 => many(random, input, words),
        14 => attributes(random, input),
        _ => nest(random, input),
    }
}

/// Returns a part of the input, mostly a short one.
fn piece(random: &mut Random, input: &[u8]) -> std::ops::Range<usize> {
    let longest = [1, 4, 16, 64, 512, input.len()][random.below(6)];
    let start = random.below(input.len());
    let end = start + random.below(longest.min(input.len() - start) + 1);
    start..end
}

/// Replaces a number by another one.
fn number(random: &mut Random, input: &mut Vec<u8>) {
    let from = random.below(input.len());
    let Some(start) = (from..input.len()).find(|at| input[*at].is_ascii_digit()) else {
        return;
    };
    let end = (start..input.len())
        .find(|at| !input[*at].is_ascii_digit())
        .unwrap_or(input.len());
    let number = random.pick(&NUMBERS).copied().unwrap_or_default();
    input.splice(start..end, number.bytes());
}

/// Removes or doubles a whole tag: unbalanced.
fn tag(random: &mut Random, input: &mut Vec<u8>) {
    let from = random.below(input.len());
    let start = (from..input.len()).find(|at| input[*at] == b'<');
    let end = start.and_then(|start| (start..input.len()).find(|at| input[*at] == b'>'));
    if let (Some(start), Some(end)) = (start, end) {
        let copy = input[start..=end].to_vec();
        match random.below(2) {
            0 => drop(input.drain(start..=end)),
            _ => drop(input.splice(start..start, copy)),
        }
    }
}

/// Repeats a word very often.
fn many(random: &mut Random, input: &mut Vec<u8>, words: &[&str]) {
    let at = random.below(input.len() + 1);
    let word = random.pick(words).copied().unwrap_or_default();
    let times = [10, 300, LARGEST / word.len().max(1) / 2][random.below(3)];
    // Numbers in the copies differ: equal ones are often refused.
    let piece = |number: usize| word.replacen("{}", &number.to_string(), 2);
    let text: String = (0..times).map(piece).collect();
    input.splice(at..at, text.bytes());
}

/// Puts many attributes into a tag.
fn attributes(random: &mut Random, input: &mut Vec<u8>) {
    let from = random.below(input.len());
    let Some(end) = (from..input.len()).find(|at| matches!(input[*at], b'>' | b'/')) else {
        return;
    };
    let count = [2, 255, 300, 5000][random.below(4)];
    let text: String = (0..count).map(|number| format!(" a{number}=''")).collect();
    input.splice(end..end, text.bytes());
}

/// Nests deeply, balanced or not.
fn nest(random: &mut Random, input: &mut Vec<u8>) {
    let depth = [1, 3, 40, 255, 300][random.below(5)];
    let (open, close) = [
        ("<a>", "</a>"),
        ("[", "]"),
        ("{\"a\":", "}"),
        ("<domain>", "</domain>"),
        ("^", ","),
    ][random.below(5)];
    let at = random.below(input.len() + 1);
    let tail = if random.below(3) == 0 {
        String::new()
    } else {
        close.repeat(depth)
    };
    input.splice(at..at, (open.repeat(depth) + &tail).bytes());
}
