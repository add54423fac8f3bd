/*! todo.js, part of the Weft sample set, Apache-2.0 */
(function (global) {
  'use strict';

  var STORAGE_KEY = 'weft.todo.items';
  var FILTERS = {
    all: function () {
      return true;
    },
    active: function (item) {
      return !item.done;
    },
    completed: function (item) {
      return item.done;
    },
  };

  /**
   * Creates a store that keeps the items in the browser and tells its listeners about every change.
   *
   * @param {Storage} storage where the items are kept, usually window.localStorage
   * @returns {object} the store
   */
  function createStore(storage) {
    var items = [];
    var listeners = [];

    function load() {
      var serialized = storage.getItem(STORAGE_KEY);
      if (serialized === null || serialized === undefined) {
        return;
      }
      try {
        items = JSON.parse(serialized);
      } catch (error) {
        // Whatever was stored there is not ours; start with an empty list.
        console.warn('cannot read the stored items', error);
        items = [];
      }
    }

    function save() {
      storage.setItem(STORAGE_KEY, JSON.stringify(items));
      for (var index = 0; index < listeners.length; index++) {
        listeners[index](items);
      }
    }

    function findIndex(identifier) {
      for (var index = 0; index < items.length; index++) {
        if (items[index].id === identifier) {
          return index;
        }
      }
      return -1;
    }

    load();

    return {
      subscribe: function (listener) {
        listeners.push(listener);
        listener(items);
        return function unsubscribe() {
          var position = listeners.indexOf(listener);
          if (position >= 0) {
            listeners.splice(position, 1);
          }
        };
      },

      add: function (title) {
        var trimmed = title.replace(/^\s+|\s+$/g, '');
        if (trimmed.length === 0) {
          return null;
        }
        var item = {
          id: Date.now().toString(36) + Math.random().toString(36).slice(2, 8),
          title: trimmed,
          done: false,
          createdAt: new Date().toISOString(),
        };
        items.push(item);
        save();
        return item;
      },

      toggle: function (identifier) {
        var index = findIndex(identifier);
        if (index < 0) {
          return false;
        }
        items[index].done = !items[index].done;
        save();
        return true;
      },

      rename: function (identifier, title) {
        var index = findIndex(identifier);
        if (index < 0) {
          return false;
        }
        items[index].title = title;
        save();
        return true;
      },

      remove: function (identifier) {
        var index = findIndex(identifier);
        if (index < 0) {
          return false;
        }
        items.splice(index, 1);
        save();
        return true;
      },

      clearCompleted: function () {
        var remaining = items.filter(FILTERS.active);
        var removed = items.length - remaining.length;
        items = remaining;
        if (removed > 0) {
          save();
        }
        return removed;
      },
    };
  }

  /** Escapes text so that it can be put into markup. */
  function escapeHtml(text) {
    return text
      .replace(/&/g, '&amp;')
      .replace(/</g, '&lt;')
      .replace(/>/g, '&gt;')
      .replace(/"/g, '&quot;')
      .replace(/'/g, '&#39;');
  }

  /** Renders the visible items as a list. */
  function render(container, items, filterName) {
    var filter = FILTERS[filterName] || FILTERS.all;
    var visibleItems = items.filter(filter);
    var markup = '';
    for (var index = 0; index < visibleItems.length; index++) {
      var item = visibleItems[index];
      var className = item.done ? 'todo-item todo-item--done' : 'todo-item';
      markup += '<li class="' + className + '" data-id="' + escapeHtml(item.id) + '">';
      markup += '<input type="checkbox" class="todo-item__toggle"' + (item.done ? ' checked' : '') + '>';
      markup += '<span class="todo-item__title">' + escapeHtml(item.title) + '</span>';
      markup += '<button class="todo-item__remove" aria-label="remove">&times;</button>';
      markup += '</li>';
    }
    container.innerHTML = markup;
  }

  /** Summarizes how much is left to do. */
  function summarize(items) {
    var remaining = items.filter(FILTERS.active).length;
    if (remaining === 0) {
      return 'nothing left to do';
    } else if (remaining === 1) {
      return 'one item left';
    } else {
      return remaining + ' items left';
    }
  }

  function currentFilter(location) {
    var name = (location.hash || '').replace(/^#\/?/, '');
    return Object.prototype.hasOwnProperty.call(FILTERS, name) ? name : 'all';
  }

  function start(document, window) {
    var store = createStore(window.localStorage);
    var list = document.querySelector('.todo-list');
    var input = document.querySelector('.todo-input');
    var status = document.querySelector('.todo-status');
    var latestItems = [];

    function update() {
      render(list, latestItems, currentFilter(window.location));
      status.textContent = summarize(latestItems);
    }

    store.subscribe(function (items) {
      latestItems = items;
      update();
    });

    window.addEventListener('hashchange', update);

    input.addEventListener('keydown', function (event) {
      if (event.key !== 'Enter') {
        return;
      }
      if (store.add(input.value) !== null) {
        input.value = '';
      }
    });

    list.addEventListener('click', function (event) {
      var element = event.target.closest('[data-id]');
      if (!element) {
        return;
      }
      var identifier = element.getAttribute('data-id');
      if (event.target.classList.contains('todo-item__remove')) {
        store.remove(identifier);
      } else if (event.target.classList.contains('todo-item__toggle')) {
        store.toggle(identifier);
      }
    });
  }

  global.TodoApplication = { start: start, createStore: createStore, summarize: summarize };
})(typeof window !== 'undefined' ? window : globalThis);
