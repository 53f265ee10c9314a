//! What the door says, in the four languages it speaks.

/// In which messages are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// English; also for whatever is none of the others.
    #[default]
    English,
    /// Русский.
    Russian,
    /// 简体中文.
    SimplifiedChinese,
    /// 繁體中文.
    TraditionalChinese,
}

/// What there is to say.
pub(super) enum Phrase {
    Success,
    TooOften {
        per_hour: u32,
        per_minute: u32,
        per_second: u32,
    },
    Denied,
    BadParameter,
    Unauthorized,
    Refused,
    ServerError,
}

impl Language {
    /// As the variable `LANG` means it: `en_US.UTF-8`, `ru`, `zh_CN`, `zh_TW`, …
    #[must_use]
    pub fn of_lang(lang: &str) -> Self {
        let name = lang.split(['.', '@']).next().unwrap_or_default();
        let name = name.replace('-', "_").to_ascii_lowercase();
        match name.as_str() {
            "zh" | "zh_cn" | "zh_sg" | "zh_hans" => Self::SimplifiedChinese,
            name if name.starts_with("zh") => Self::TraditionalChinese,
            name if name.starts_with("ru") => Self::Russian,
            _ => Self::English,
        }
    }

    pub(super) fn say(self, phrase: &Phrase) -> String {
        let words = match (phrase, self) {
            (
                Phrase::TooOften {
                    per_hour,
                    per_minute,
                    per_second,
                },
                language,
            ) => {
                return language.too_often([*per_hour, *per_minute, *per_second]);
            }
            (Phrase::Success, Self::English) => "success",
            (Phrase::Success, Self::Russian) => "Готово.",
            (Phrase::Success, Self::SimplifiedChinese) => "请求成功。",
            (Phrase::Success, Self::TraditionalChinese) => "請求成功。",
            (Phrase::Denied, Self::English) => "This address takes POST requests only.",
            (Phrase::Denied, Self::Russian) => "Этот адрес принимает только запросы POST.",
            (Phrase::Denied, Self::SimplifiedChinese) => "此地址只接受 POST 请求。",
            (Phrase::Denied, Self::TraditionalChinese) => "此位址只接受 POST 請求。",
            (Phrase::BadParameter, Self::English) => "A parameter of the request is wrong.",
            (Phrase::BadParameter, Self::Russian) => "Неверный параметр запроса.",
            (Phrase::BadParameter, Self::SimplifiedChinese) => "请求参数有误。",
            (Phrase::BadParameter, Self::TraditionalChinese) => "請求參數有誤。",
            (Phrase::Unauthorized, Self::English) => "The API key is not accepted.",
            (Phrase::Unauthorized, Self::Russian) => "Ключ API не принят.",
            (Phrase::Unauthorized, Self::SimplifiedChinese) => "API 密钥无效。",
            (Phrase::Unauthorized, Self::TraditionalChinese) => "API 金鑰無效。",
            (Phrase::Refused, Self::English) => "The request was refused.",
            (Phrase::Refused, Self::Russian) => "Запрос отклонён.",
            (Phrase::Refused, Self::SimplifiedChinese) => "请求被拒绝。",
            (Phrase::Refused, Self::TraditionalChinese) => "請求遭到拒絕。",
            (Phrase::ServerError, Self::English) => "The request could not be served.",
            (Phrase::ServerError, Self::Russian) => "Запрос не удалось выполнить.",
            (Phrase::ServerError, Self::SimplifiedChinese) => "服务暂时出错。",
            (Phrase::ServerError, Self::TraditionalChinese) => "服務暫時發生錯誤。",
        };
        words.to_owned()
    }

    fn too_often(self, limits: [u32; 3]) -> String {
        let (words, units) = match self {
            Self::English => (
                "Too many requests; allowed are at most: ",
                ["per hour", "per minute", "per second"],
            ),
            Self::Russian => (
                "Слишком много запросов; допускается не более: ",
                ["в час", "в минуту", "в секунду"],
            ),
            Self::SimplifiedChinese => ("请求过于频繁，上限为：", ["次/小时", "次/分钟", "次/秒"]),
            Self::TraditionalChinese => ("請求過於頻繁，上限為：", ["次/小時", "次/分鐘", "次/秒"]),
        };
        let limits: Vec<String> = limits
            .iter()
            .zip(units)
            .filter(|(limit, _)| **limit > 0)
            .map(|(limit, unit)| format!("{limit} {unit}"))
            .collect();
        format!("{words}{}", limits.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_value_of_lang_has_a_language() {
        for (lang, language) in [
            ("en_US", Language::English),
            ("C.UTF-8", Language::English),
            ("", Language::English),
            ("ru_RU.UTF-8", Language::Russian),
            ("zh", Language::SimplifiedChinese),
            ("zh_CN.UTF-8", Language::SimplifiedChinese),
            ("zh_TW", Language::TraditionalChinese),
            ("zh-HK", Language::TraditionalChinese),
        ] {
            assert_eq!(Language::of_lang(lang), language, "{lang}");
        }
    }

    #[test]
    fn only_limits_that_are_set_are_named() {
        let phrase = Phrase::TooOften {
            per_hour: 50,
            per_minute: 0,
            per_second: 1,
        };
        assert_eq!(
            Language::English.say(&phrase),
            "Too many requests; allowed are at most: 50 per hour, 1 per second"
        );
    }
}
