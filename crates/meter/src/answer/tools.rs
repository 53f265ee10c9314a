//! Calls of the provider's own tools, as an answer shows them.

use tariff::{PerTool, SearchSize, Tool};

use super::figures::{Figure, Figures};

/// Containers of one answer that are told apart.
const CONTAINERS_MAX: usize = 64;

/// What was called. Where the answer gives a count, that counts; else the items of its output do.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// `tool_usage.web_search.num_requests`: the only explicit count of Responses.
    pub(super) searches_reported: Option<u64>,
    /// A sentence of a chat's answer cites a page: somebody searched.
    pub(super) is_cited: bool,
    /// The usage tells of a search, by its size.
    pub(super) size: Option<SearchSize>,
    /// The search tool that was offered is the older one.
    is_preview: bool,
    /// The items of a stream, as each was done.
    passed: Items,
    /// The items of the answer's own list.
    listed: Items,
    item: Item,
}

#[derive(Debug, Default)]
struct Items {
    count: u64,
    searches: u64,
    file_searches: u64,
    containers: Vec<String>,
}

/// The item now passing.
#[derive(Debug, Default)]
struct Item {
    is_web_search: bool,
    is_file_search: bool,
    /// `open_page` and `find_in_page` are actions of the same item that cost nothing.
    is_other_action: bool,
    container: Option<String>,
}

impl Calls {
    pub(super) fn begin_list(&mut self) {
        self.listed = Items::default();
    }

    pub(super) fn begin_item(&mut self) {
        self.item = Item::default();
    }

    pub(super) fn item_type(&mut self, name: &[u8]) {
        self.item.is_web_search = name == b"web_search_call";
        self.item.is_file_search = name == b"file_search_call";
    }

    pub(super) fn action_type(&mut self, name: &[u8]) {
        self.item.is_other_action = name != b"search";
    }

    pub(super) fn container(&mut self, id: Option<String>) {
        self.item.container = id;
    }

    /// The item has passed whole, in the answer's own list or by itself.
    pub(super) fn end_item(&mut self, is_listed: bool) {
        let item = std::mem::take(&mut self.item);
        let items = if is_listed {
            &mut self.listed
        } else {
            &mut self.passed
        };
        items.count = items.count.saturating_add(1);
        let is_search = item.is_web_search && !item.is_other_action;
        items.searches = items.searches.saturating_add(u64::from(is_search));
        items.file_searches = items
            .file_searches
            .saturating_add(u64::from(item.is_file_search));
        if let Some(id) = item.container
            && !items.containers.contains(&id)
            && items.containers.len() < CONTAINERS_MAX
        {
            items.containers.push(id);
        }
    }

    /// A tool that the request offered, as the answer repeats it.
    pub(super) fn offered(&mut self, name: &[u8]) {
        self.is_preview |= name.starts_with(b"web_search_preview");
    }

    /// The calls that cost a fee, with what the usage object says of them.
    pub(super) fn count(&self, figures: &Figures) -> PerTool<u64> {
        let items = if self.listed.count > 0 {
            &self.listed
        } else {
            &self.passed
        };
        let has_searched = self.is_cited || self.size.is_some();
        let cited = u64::from(has_searched && items.searches == 0);
        let searches = self
            .searches_reported
            .or(figures.get(Figure::WebSearches))
            .unwrap_or_else(|| items.searches.saturating_add(cited));
        let containers = items.containers.len() as u64;
        let mut calls = PerTool::default();
        let search = if self.is_preview {
            Tool::WebSearchPreview
        } else {
            Tool::search(self.size.unwrap_or_default())
        };
        calls.set(search, searches);
        calls.set(Tool::XSearch, figures.get(Figure::XSearches).unwrap_or(0));
        let file_searches = figures.get(Figure::FileSearches);
        calls.set(
            Tool::FileSearch,
            file_searches.unwrap_or(items.file_searches),
        );
        let code = figures.get(Figure::CodeRuns);
        calls.set(Tool::Container, code.unwrap_or(containers));
        calls
    }
}
