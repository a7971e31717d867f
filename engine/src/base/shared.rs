//! What is kept small, because each of thousands of policies has it; and what many hold at the same time and nobody changes.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use litemap::LiteMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A few things by their names, in the order of these.
pub type ByName<T> = LiteMap<String, T>;

/// A value that is kept once, however often it is cloned. Whoever changes it gets one of their own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shared<T>(Arc<T>);

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<I, T: FromIterator<I>> FromIterator<I> for Shared<T> {
    fn from_iter<Items: IntoIterator<Item = I>>(items: Items) -> Self {
        items.into_iter().collect::<T>().into()
    }
}

impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_once_until_somebody_changes_it() {
        let one: Shared<Vec<u8>> = (1..4).collect();
        let mut other = one.clone();
        assert!(Arc::ptr_eq(&one.0, &other.0));
        other.push(4);
        assert_eq!((one.len(), other.len()), (3, 4));
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!((&*text, serde_json::from_str::<Shared<Vec<u8>>>(&text).unwrap()), ("[1,2,3]", one));
    }
}
