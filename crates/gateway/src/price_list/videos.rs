//! Videos of the larger sizes, which the list has under a model name of their own that nobody can ask for.

use super::PriceList;

/// What the list appends to a model's name for its larger sizes.
const SUFFIX: &str = "-high-res";
/// Those sizes (OpenAI's sora-2-pro).
const SIZES: [&str; 2] = ["1024x1792", "1792x1024"];

/// Gives the model its own larger sizes. The entry under the longer name stays: it does no harm.
pub(super) fn take_sizes(list: &mut PriceList) {
    let large: Vec<(String, i64)> = list
        .prices
        .iter()
        .filter_map(|it| {
            let pattern = it.pattern.to_string();
            let name = pattern.strip_suffix(SUFFIX)?.to_owned();
            Some((name, it.fees.video_minute?))
        })
        .collect();
    for (name, fee) in large {
        let own = list.prices.iter_mut();
        for it in own.filter(|it| it.pattern.to_string() == name) {
            it.fees.videos = SIZES.map(|size| (size.into(), fee)).into();
        }
    }
}
