//! Paths with names where ids stand: `/responses/{response}/cancel`.

/// The end of a path, as the table has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Template(pub(super) &'static str);

/// A path that ends so.
#[derive(Clone, Copy, Debug)]
pub(super) struct End<'a> {
    /// What stands before it.
    pub(super) base: &'a str,
    pub(super) named: Named<'a>,
}

/// The segments that have a name in the template, innermost first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Named<'a>([Option<(&'static str, &'a str)>; NAMES_MAX]);

/// Most names in one template.
const NAMES_MAX: usize = 3;
/// The longest id that is one.
const ID_BYTES_MAX: usize = 128;

impl Template {
    /// The path's end, if it ends so.
    pub(super) fn end_of<'a>(&self, path: &'a str) -> Option<End<'a>> {
        let mut named = Named::default();
        let mut free = named.0.iter_mut();
        let mut base = path;
        for part in self.parts() {
            let (rest, segment) = base.rsplit_once('/')?;
            match name(part) {
                Some(name) if is_id(segment) => *free.next()? = Some((name, segment)),
                None if part == segment => {}
                _ => return None,
            }
            base = rest;
        }
        Some(End { base, named })
    }

    /// Whether a path, in lower case and without escapes, ends like this or could be read so.
    pub(super) fn resembles_end_of(&self, path: &str) -> bool {
        let mut rest = path;
        self.parts().all(|part| {
            let Some((before, segment)) = rest.rsplit_once('/') else {
                return false;
            };
            rest = before;
            name(part).is_some() || part == segment
        })
    }

    /// Of two that a path ends like, the heavier is meant: the longer, then the one with fewer names.
    pub(super) fn weight(&self) -> (usize, usize) {
        let literal = self.parts().filter(|part| name(part).is_none());
        (self.parts().count(), literal.count())
    }

    /// The names in it.
    #[cfg(test)]
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.parts().filter_map(name)
    }

    /// Its segments, the last first.
    fn parts(&self) -> impl Iterator<Item = &'static str> {
        self.0.trim_start_matches('/').rsplit('/')
    }
}

impl<'a> Named<'a> {
    /// Names and segments as they follow one another in the path.
    pub(super) fn outermost_first(self) -> impl Iterator<Item = (&'static str, &'a str)> {
        self.0.into_iter().rev().flatten()
    }
}

fn name(part: &'static str) -> Option<&'static str> {
    part.strip_prefix('{')?.strip_suffix('}')
}

/// Whether a segment is an id that every server reads alike.
fn is_id(segment: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    (1..=ID_BYTES_MAX).contains(&segment.len()) && segment.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_plain_segments() {
        let template = Template("/files/{file}/content");
        let base = |path| template.end_of(path).map(|end| end.base);
        assert_eq!(base("/v1/files/file-1/content"), Some("/v1"));
        assert_eq!(base("/files/ft:gpt-4o:x::1/content"), Some(""));
        for path in [
            "/v1/files//content",
            "/v1/files/a%20b/content",
            "/v1/files/a b/content",
            "/v1/files/content",
            "files/a/content",
        ] {
            assert_eq!(base(path), None, "{path}");
        }
        let long = format!("/files/{}/content", "x".repeat(ID_BYTES_MAX + 1));
        assert!(template.end_of(&long).is_none());
        assert!(template.end_of(&long.replacen('x', "", 1)).is_some());
    }

    #[test]
    fn the_longer_and_then_the_more_literal_template_is_the_heavier() {
        let weight = |path| Template(path).weight();
        assert!(weight("/a/{id}") > weight("/b"));
        assert!(weight("/a/b") > weight("/a/{id}"));
    }
}
