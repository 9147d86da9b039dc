//! Reader of the small values of domain XML, as libvirt reads them: numbers, amounts of memory,
//! lists, on and off.

use crate::types::cpulist;
use crate::types::ids::{Id, KiB};
use crate::types::idset::IdSet;
pub(crate) use crate::xml::error::short;
use crate::xml::{Element, XmlError};

/// Largest amount of memory that libvirt accepts, in KiB (`VIR_DOMAIN_MEMORY_PARAM_UNLIMITED`).
pub(crate) const MAX_MEMORY_KIB: u64 = (1 << 53) - 1;

/// Reads a decimal number from 0 to 2^32 - 1. White space around it is ignored.
pub(super) fn number(element: &Element<'_>, what: &str, text: &str) -> Result<u32, XmlError> {
    let digits = digits(element, what, text)?;
    digits
        .parse()
        .map_err(|_| element.error(format!("{what} is '{}', too large a number", short(text))))
}

/// Reads an amount like [`memory`], where the reason of a failure does not matter: an error has its
/// line, and finding the line reads all of the text before it.
pub(crate) fn amount(text: &str, unit: Option<&str>) -> Option<KiB> {
    let digits = text.trim();
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let scale = scale(unit.unwrap_or_default()).filter(|_| is_whole)?;
    let bytes = digits.parse::<u128>().ok()?.checked_mul(scale)?;
    (bytes <= u128::from(MAX_MEMORY_KIB) * 1024).then(|| KiB(bytes.div_ceil(1024) as u64))
}

/// Returns the digits of a whole number, without white space and sign.
fn digits<'t>(element: &Element<'_>, what: &str, text: &'t str) -> Result<&'t str, XmlError> {
    let digits = text.trim();
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(element.error(format!("{what} is '{}', not a whole number", short(text))));
    }
    Ok(digits)
}

/// Reads an attribute that is a decimal number.
pub(super) fn number_attr(element: &Element<'_>, name: &str) -> Result<Option<u32>, XmlError> {
    match element.attr(name) {
        Some(text) => Ok(Some(number(
            element,
            &format!("{name}= of <{}>", element.name()),
            &text,
        )?)),
        None => Ok(None),
    }
}

/// Reads an attribute that is a number as C writes it: `0x1f` hexadecimal, `017` octal, else
/// decimal (`virXMLPropUInt` with base 0, as PCI addresses are read).
pub(crate) fn c_number_attr(element: &Element<'_>, name: &str) -> Result<Option<u32>, XmlError> {
    let Some(text) = element.attr(name) else {
        return Ok(None);
    };
    let digits = text.trim();
    let parsed = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        u32::from_str_radix(hex, 16)
    } else if digits.len() > 1 && digits.starts_with('0') {
        u32::from_str_radix(digits, 8)
    } else {
        digits.parse()
    };
    parsed.map(Some).map_err(|_| {
        element.error(format!(
            "{name}= of <{}> is '{}', not a number",
            element.name(),
            short(&text)
        ))
    })
}

/// Reads a required attribute.
pub(super) fn required<'e>(element: &Element<'e>, name: &str) -> Result<std::borrow::Cow<'e, str>, XmlError> {
    element
        .attr(name)
        .ok_or_else(|| element.error(format!("<{}> has no {name}=", element.name())))
}

/// Reads an amount of memory, rounded up to KiB. Units as in `virScaleInteger`: none is KiB,
/// `b`/`bytes`, `K`/`KiB` … `E`/`EiB` powers of 1024, `KB` … `EB` powers of 1000, in any case.
pub(super) fn memory(
    element: &Element<'_>,
    what: &str,
    text: &str,
    unit: Option<&str>,
) -> Result<KiB, XmlError> {
    let digits = digits(element, what, text)?;
    let unit = unit.unwrap_or_default();
    let Some(scale) = scale(unit) else {
        return Err(element.error(format!(
            "unit='{}' of {what} is none that libvirt knows; use KiB, MiB or GiB",
            short(unit)
        )));
    };
    let bytes = digits.parse::<u128>().ok().and_then(|n| n.checked_mul(scale));
    match bytes {
        Some(bytes) if bytes <= u128::from(MAX_MEMORY_KIB) * 1024 => Ok(KiB(bytes.div_ceil(1024) as u64)),
        _ => Err(element.error(format!(
            "{what} is {} {unit}, more than libvirt can hold",
            short(digits)
        ))),
    }
}

fn scale(unit: &str) -> Option<u128> {
    let unit = unit.to_ascii_lowercase();
    match unit.as_str() {
        "" => return Some(1024),
        "b" | "byte" | "bytes" => return Some(1),
        _ => {}
    }
    let mut letters = unit.chars();
    let prefix = letters.next()?;
    let base: u128 = match letters.as_str() {
        "" | "ib" => 1024,
        "b" => 1000,
        _ => return None,
    };
    let power = "kmgtpe".find(prefix)? as u32 + 1;
    Some(base.pow(power))
}

/// Reads a list as libvirt's `virBitmapParse` does: numbers, ranges, `^N`; a comma may end it. The
/// set is never empty: libvirt refuses a list that leaves nothing.
pub(super) fn list<T: Id>(element: &Element<'_>, what: &str, text: &str) -> Result<IdSet<T>, XmlError> {
    let set = any_list(element, what, text)?;
    if set.is_empty() {
        return Err(element.error(format!("{what} '{}' leaves no {}", short(text), T::NOUN)));
    }
    Ok(set)
}

/// Reads a list like [`list`], which may leave nothing after its exclusions.
pub(super) fn any_list<T: Id>(element: &Element<'_>, what: &str, text: &str) -> Result<IdSet<T>, XmlError> {
    let fail = |problem: String| Err(element.error(format!("{what} '{}': {problem}", short(text))));
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return fail("an empty list".into());
    }
    if trimmed.contains(':') {
        return fail("strides are not libvirt's; write the numbers out".into());
    }
    if trimmed
        .split(',')
        .any(|item| item.trim().starts_with('^') && item.contains('-'))
    {
        return fail("libvirt excludes single numbers only, not ranges".into());
    }
    let body = trimmed.strip_suffix(',').unwrap_or(trimmed);
    // libvirt accepts an exclusion at the beginning, where it has no effect.
    match cpulist::parse_within(body, &IdSet::new()) {
        Ok(set) => Ok(set),
        Err(error) => fail(error.problem.to_string()),
    }
}

/// Reads `on` or `off` (`virTristateSwitch`).
pub(super) fn switch(element: &Element<'_>, name: &str) -> Result<Option<bool>, XmlError> {
    match element.attr(name).as_deref() {
        None => Ok(None),
        Some("on") => Ok(Some(true)),
        Some("off") => Ok(Some(false)),
        Some(other) => Err(element.error(format!(
            "{name}= of <{}> is '{}', neither on nor off",
            element.name(),
            short(other)
        ))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::types::idset::CpuSet;
    use crate::xml::Document;

    #[test]
    fn memory_in_every_unit() {
        let document = Document::parse("<memory/>").unwrap();
        let cases: &[(&str, Option<&str>, Option<u64>)] = &[
            ("1", None, Some(1)),
            (" 8 ", Some(""), Some(8)),
            ("1", Some("b"), Some(1)),
            ("1025", Some("bytes"), Some(2)),
            ("0", Some("GiB"), Some(0)),
            ("1", Some("KB"), Some(1)),
            ("1", Some("k"), Some(1)),
            ("1", Some("MB"), Some(977)),
            ("1", Some("M"), Some(1024)),
            ("2", Some("gib"), Some(2 << 20)),
            ("1", Some("T"), Some(1 << 30)),
            ("1", Some("PiB"), Some(1 << 40)),
            ("1", Some("E"), Some(1 << 50)),
            ("8", Some("EiB"), None),
            ("9007199254740991", None, Some(9_007_199_254_740_991)),
            ("9007199254740992", None, None),
            ("340282366920938463463374607431768211456", Some("E"), None),
            ("18446744073709551616", Some("b"), None),
            ("1", Some("XiB"), None),
            ("1", Some("kibs"), None),
            ("1", Some("é"), None),
            ("-1", None, None),
            ("1.5", Some("GiB"), None),
            ("", None, None),
        ];
        for (text, unit, expected) in cases {
            let got = memory(&document.root(), "<memory>", text, *unit);
            assert_eq!(got.ok().map(|k| k.0), *expected, "{text} {unit:?}");
            assert_eq!(amount(text, *unit).map(|k| k.0), *expected, "{text} {unit:?}");
        }
    }

    #[test]
    fn lists_as_libvirt_takes_them() {
        let document = Document::parse("<vcpupin/>").unwrap();
        let cases: &[(&str, Option<&str>)] = &[
            ("0-3,^2", Some("0-1,3")),
            (" 1 - 2 , 5,", Some("1-2,5")),
            ("^0,1", Some("1")),
            ("16383", Some("16383")),
            ("16384", None),
            ("", None),
            ("  ", None),
            ("0,^0", None),
            ("0-3:2", None),
            ("0-7,^1-2", None),
            ("3-1", None),
            ("0,,1", None),
            ("a", None),
        ];
        for (text, expected) in cases {
            let got: Result<CpuSet, _> = list(&document.root(), "cpuset", text);
            assert_eq!(
                got.ok().map(|s| s.to_string()).as_deref(),
                *expected,
                "list '{text}'"
            );
        }
    }
}
