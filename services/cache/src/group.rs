//! The declared groups: which keys depend on an entity, and go when it changes.

use crate::key::{IdError, Key, Pattern};

/// A kind of thing that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entity {
    /// A user.
    User,
    /// A chat, which belongs to a user.
    Chat,
    /// A model.
    Model,
    /// A document, which belongs to a user.
    Document,
}

/// One key of a group, before it is known whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    /// The entity itself: `<pattern>:{id}`.
    Itself(Pattern),
    /// The list of all of them: `<pattern>`.
    List(Pattern),
    /// The list of those of its owner: `<pattern>:{owner}`.
    OwnersList(Pattern),
}

/// Why an entity, an id and an owner name no group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The id is not allowed.
    #[error("id {0}")]
    Id(IdError),
    /// The owner is not allowed.
    #[error("owner {0}")]
    Owner(IdError),
}

impl Entity {
    /// The keys to drop when the entity with this id, which belongs to `owner`, changes. An owner is needed, and
    /// looked at, only where the group has a list of its owner's.
    ///
    /// # Errors
    /// When the id, or an owner that is needed, is not allowed.
    pub fn keys(self, id: &str, owner: &str) -> Result<Vec<Key>, GroupError> {
        let key = |member: &Member| match *member {
            Member::Itself(pattern) => Key::with_id(pattern, id).map_err(GroupError::Id),
            Member::List(pattern) => Ok(Key::alone(pattern)),
            Member::OwnersList(pattern) => Key::with_id(pattern, owner).map_err(GroupError::Owner),
        };
        self.members().iter().map(key).collect()
    }

    /// The declaration.
    const fn members(self) -> &'static [Member] {
        use Member::{Itself, List, OwnersList};
        match self {
            Self::User => &[Itself(Pattern::User), List(Pattern::UserList)],
            Self::Chat => &[Itself(Pattern::Chat), OwnersList(Pattern::ChatList)],
            Self::Model => &[Itself(Pattern::Model), List(Pattern::ModelList)],
            Self::Document => {
                &[Itself(Pattern::Document), List(Pattern::DocumentList), OwnersList(Pattern::DocumentList)]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(entity: Entity, id: &str, owner: &str) -> Vec<String> {
        entity.keys(id, owner).unwrap().iter().map(|key| key.as_str().to_owned()).collect()
    }

    #[test]
    fn the_groups_are_those_of_the_contract() {
        assert_eq!(names(Entity::User, "1", ""), ["user:1", "user_list"]);
        assert_eq!(names(Entity::Chat, "7", "ada"), ["chat:7", "chat_list:ada"]);
        assert_eq!(names(Entity::Model, "m", "ignored by this group"), ["model:m", "model_list"]);
        assert_eq!(names(Entity::Document, "d", "ada"), ["document:d", "document_list", "document_list:ada"]);
        for entity in [Entity::User, Entity::Chat, Entity::Model, Entity::Document] {
            for key in entity.keys("x", "y").unwrap() {
                assert_eq!(Key::parse(key.as_str()), Ok(key));
            }
        }
    }

    #[test]
    fn a_wrong_id_and_a_missing_owner_are_told_apart() {
        assert_eq!(Entity::Chat.keys("", "ada"), Err(GroupError::Id(IdError::Empty)));
        assert_eq!(Entity::Chat.keys("7", ""), Err(GroupError::Owner(IdError::Empty)));
        assert_eq!(Entity::Document.keys("d", "a b"), Err(GroupError::Owner(IdError::Unprintable(1))));
    }
}
