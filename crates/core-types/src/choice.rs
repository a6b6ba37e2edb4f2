//! The macro for closed sets of words that appear in the database, in the API and in settings alike.
//!
//! One spelling per variant, one error text that names what is allowed.

/// A word that is not in a closed set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{got}` is not a {what}; allowed: {allowed}")]
pub struct UnknownWord {
    /// What kind of word was expected, e.g. `role`.
    pub what: &'static str,
    /// The word as it was given.
    pub got: String,
    /// The allowed words, separated by `, `.
    pub allowed: String,
}

/// Declares a closed set of words: the enum, `as_str`, `ALL`, `Display`, `FromStr` and serde.
#[macro_export]
macro_rules! words {
    (
        $(#[$meta:meta])*
        $name:ident, $what:literal {
            $( $(#[$vmeta:meta])* $variant:ident = $word:literal, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "&'static str")]
        pub enum $name {
            $( $(#[$vmeta])* $variant, )+
        }

        impl $name {
            /// Every variant, in the order of declaration.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];
            /// Every word, in the order of declaration.
            pub const WORDS: &'static [&'static str] = &[ $( $word, )+ ];

            /// The word used in the database, in the API and in settings.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::choice::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $( $word => Ok(Self::$variant), )+
                    _ => Err($crate::choice::UnknownWord {
                        what: $what,
                        got: word.to_owned(),
                        allowed: Self::WORDS.join(", "),
                    }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::choice::UnknownWord;

            fn try_from(word: String) -> Result<Self, Self::Error> {
                word.parse()
            }
        }

        impl From<$name> for &'static str {
            fn from(value: $name) -> Self {
                value.as_str()
            }
        }
    };
}
