# Agents written with LangChain and LangGraph, recorded by OpenInference. Their models are fakes.
#
# Run as `opentelemetry-instrument python agents.py`, which finds the installed instrumentation; all
# settings come from the environment. Prints the tokens that the models report.

import json

from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition


class Model(GenericFakeChatModel):
    model_name: str = 'fake-1'

    def bind_tools(self, tools, **kwargs):
        return self


counted = {'input': 0, 'output': 0}


def answer(text, input, output, cached=0, call=None):
    counted['input'] += input
    counted['output'] += output
    return AIMessage(
        text,
        tool_calls=[call] if call else [],
        usage_metadata={
            'input_tokens': input,
            'output_tokens': output,
            'total_tokens': input + output,
            'input_token_details': {'cache_read': cached},
        },
    )


@tool
def stock(item: str, unit: str) -> str:
    """Return the stock of an item."""
    return f'7 {unit} of {item}'


clerk = create_agent(
    Model(
        messages=iter([
            answer('', 100, 20, call={
                'name': 'stock', 'args': {'item': 'bolts', 'unit': 'boxes'}, 'id': 'call-2',
            }),
            answer('7 boxes.', 130, 10, cached=90),
        ])
    ),
    [stock],
    name='clerk',
    system_prompt='You know the warehouse.',
)


@tool
def ask_clerk_agent(question: str, urgent: bool) -> str:
    """Ask the clerk."""
    result = clerk.invoke({'messages': [('user', question)]})
    return result['messages'][-1].content


boss = create_agent(
    Model(
        messages=iter([
            answer('', 50, 15, call={
                'name': 'ask_clerk_agent',
                'args': {'question': 'How many bolts?', 'urgent': True},
                'id': 'call-1',
            }),
            answer('We have 7 boxes.', 80, 8),
        ])
    ),
    [ask_clerk_agent],
    name='boss',
)
boss.invoke(
    {'messages': [('user', 'Do we have bolts?')]},
    config={'configurable': {'thread_id': 'thread-1'}},
)


# A graph without `create_agent`. Its tool fails, and its node has a name that is common in graphs.


@tool
def jam(item: str, unit: str) -> str:
    """Fail."""
    raise ValueError('the printer is jammed')


model = Model(
    messages=iter([
        answer('', 40, 5, call={'name': 'jam', 'args': {'item': 'a', 'unit': 'b'}, 'id': 'call-3'}),
    ])
)
graph = StateGraph(MessagesState)
graph.add_node('agent', lambda state: {'messages': [model.invoke(state['messages'])]})
graph.add_node('tools', ToolNode([jam], handle_tool_errors=False))
graph.add_edge(START, 'agent')
graph.add_conditional_edges('agent', tools_condition)
graph.add_edge('tools', 'agent')
try:
    graph.compile(name='printer').invoke({'messages': [('user', 'Print the list.')]})
except ValueError:
    pass

print(json.dumps(counted))
